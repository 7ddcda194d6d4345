# The images that stand on Triton's container, for a host with a GPU: the server, and what builds plans for it in the same TensorRT.
# From the repository's root; docker/build.sh builds both. The tag stands in docker/.env:
#
#   docker build -f docker/triton.Dockerfile --build-arg TRITON_IMAGE --target triton -t pcb-defect-detector/triton .
#   docker build -f docker/triton.Dockerfile --build-arg TRITON_IMAGE --target export -t pcb-defect-detector/export .
ARG TRITON_IMAGE

FROM ${TRITON_IMAGE} AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY pyproject.toml README.md constraints.txt ./

# The Python backend takes the packages of the container's own Python and no others, so they are installed there.
FROM builder AS runtime
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --constraint constraints.txt '.[cuda]'
# The generator runs its plans from Python, in exactly the TensorRT that the server loads. The module `tensorrt` is a package of
# its own, which asks for libraries beside the bindings; those are in the base. The import loads them and needs no GPU.
RUN --mount=type=cache,target=/root/.cache/pip \
    library="$(find / -xdev -type f -name 'libnvinfer.so.*.*.*' -print -quit)"; \
    version="${library##*.so.}.*"; \
    if [ -n "${library}" ]; then \
        python3 -m pip install --no-deps "tensorrt-cu13==${version}" "tensorrt-cu13-bindings==${version}"; \
        python3 -c "import tensorrt"; \
    else echo "this base has no TensorRT: it serves no plans" >&2; fi
# The backend makes its stub executable at the start, which a read-only root does not allow.
RUN chmod 0755 /opt/tritonserver/backends/python/triton_python_backend_stub \
 && groupadd --gid 10001 pcbd \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pcbd \
 && install --directory --owner=10001 --group=10001 /models
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_HOME=/tmp/huggingface

FROM runtime AS triton
COPY export/ export/
RUN python3 -m pip install --no-cache-dir --no-deps --force-reinstall .
USER 10001:10001
EXPOSE 8000 8001 8002
CMD ["tritonserver", "--model-repository=/models/repository", "--model-control-mode=explicit", "--load-model=*", \
     "--strict-readiness=false", "--disable-auto-complete-config", "--exit-timeout-secs=30"]

FROM runtime AS export
# onnxruntime and onnxruntime-gpu own the same files; the one for GPUs comes last.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    python3 -m pip install --constraint constraints.txt --find-links docker/wheels '.[export,gpu]' \
 && python3 -m pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1
COPY export/ export/
RUN python3 -m pip install --no-cache-dir --no-deps --force-reinstall .
COPY tests/data/board.png /opt/pcbd/pictures/
USER 10001:10001
ENTRYPOINT ["python3", "-m", "export.build", "--checkpoint", "/checkpoint", "--out", "/models/repository", \
            "--images", "/opt/pcbd/pictures", "--report", "/models/report/report.json", "--skip-existing"]
CMD ["--target", "tensorrt"]
