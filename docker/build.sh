#!/usr/bin/env bash
# Builds the images of a profile, labelled; what follows goes to `docker build`:
#
#   docker/build.sh gpu                                               gateway, triton, export, training
#   docker/build.sh cpu                                               gateway, triton-cpu, export-cpu
#   docker/build.sh gpu --push --sbom=true --provenance=mode=max      with buildx: attested, in a registry
#
# IMAGE_PREFIX names another registry than this host. Base images and PCBD_TAG: docker/.env, or the environment. Each
# image of Python's carries its bill of materials, /opt/pcbd/sbom.cdx.json (CycloneDX).
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
    gpu) targets=(python:gateway triton:triton triton:export python:training) ;;
    cpu) targets=(python:gateway python:triton-cpu python:export-cpu) ;;
    *) echo "error: the profile is '${1:-}', expected gpu or cpu: docker/build.sh cpu" >&2; exit 2 ;;
esac
shift
while IFS= read -r line; do # what the environment says goes before the file
    name="${line%%=*}"
    if [[ "${line}" =~ ^[A-Z_]+= && -z "${!name+set}" ]]; then eval "export ${line}"; fi
done < docker/.env
for target in "${targets[@]}"; do
    DOCKER_BUILDKIT=1 docker build \
        --file "docker/${target%%:*}.Dockerfile" \
        --target "${target#*:}" \
        --build-arg PYTHON_IMAGE \
        --build-arg TRITON_IMAGE \
        --label "org.opencontainers.image.title=pcb-defect-detector ${target#*:}" \
        --label "org.opencontainers.image.version=${PCBD_TAG}" \
        --label "org.opencontainers.image.revision=$(git rev-parse HEAD || true)" \
        --label "org.opencontainers.image.created=$(git show --no-patch --format=%cI HEAD || true)" \
        --label "org.opencontainers.image.source=$(git config --get remote.origin.url || true)" \
        --label "org.opencontainers.image.licenses=Apache-2.0" \
        --tag "${IMAGE_PREFIX:-pcb-defect-detector}/${target#*:}:${PCBD_TAG}" \
        "$@" .
done
