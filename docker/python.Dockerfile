# The images that stand on Python alone: the gateway, training, and what runs on a machine without a GPU.
# From the repository's root; docker/build.sh builds all of them:
#
#   docker build -f docker/python.Dockerfile --target gateway    -t pcb-defect-detector/gateway .
#   docker build -f docker/python.Dockerfile --target triton-cpu -t pcb-defect-detector/triton-cpu .
#   docker build -f docker/python.Dockerfile --target export-cpu -t pcb-defect-detector/export-cpu .
#   docker build -f docker/python.Dockerfile --target training   -t pcb-defect-detector/training .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/build/constraints.txt PIP_FIND_LINKS=/build/docker/wheels
WORKDIR /build
RUN python3 -m venv /opt/pcbd
# Dependencies first: beside no package the project is its name and its extras, so that a change of code installs nothing else.
COPY pyproject.toml README.md constraints.txt ./

FROM builder AS sbom-tool
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    python3 -m venv /opt/sbom && /opt/sbom/bin/pip install cyclonedx-bom

FROM builder AS gateway-builder
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    /opt/pcbd/bin/pip install '.[gateway]'
COPY export/ export/
COPY gateway/ gateway/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pcbd/bin/pip install --no-deps --force-reinstall .
RUN --mount=type=bind,from=sbom-tool,source=/opt/sbom,target=/opt/sbom \
    /opt/sbom/bin/cyclonedx-py environment --output-file /opt/pcbd/sbom.cdx.json /opt/pcbd/bin/python

FROM builder AS triton-cpu-builder
ARG PYTRITON=nvidia-pytriton==0.7.0
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    /opt/pcbd/bin/pip install '.[serving]' && /opt/pcbd/bin/pip install --no-deps "${PYTRITON}"
COPY export/ export/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pcbd/bin/pip install --no-deps --force-reinstall .
RUN --mount=type=bind,from=sbom-tool,source=/opt/sbom,target=/opt/sbom \
    /opt/sbom/bin/cyclonedx-py environment --output-file /opt/pcbd/sbom.cdx.json /opt/pcbd/bin/python

FROM builder AS export-cpu-builder
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    /opt/pcbd/bin/pip install '.[export]'
COPY export/ export/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pcbd/bin/pip install --no-deps --force-reinstall .
RUN --mount=type=bind,from=sbom-tool,source=/opt/sbom,target=/opt/sbom \
    /opt/sbom/bin/cyclonedx-py environment --output-file /opt/pcbd/sbom.cdx.json /opt/pcbd/bin/python

FROM builder AS training-builder
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=docker/wheels,target=/build/docker/wheels \
    /opt/pcbd/bin/pip install '.[training]'
COPY export/ export/
COPY training/ training/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/pcbd/bin/pip install --no-deps --force-reinstall .
RUN --mount=type=bind,from=sbom-tool,source=/opt/sbom,target=/opt/sbom \
    /opt/sbom/bin/cyclonedx-py environment --output-file /opt/pcbd/sbom.cdx.json /opt/pcbd/bin/python

# What a volume is first filled with, its owner included, is what an image has in that place.
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/pcbd/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_HOME=/tmp/huggingface
RUN groupadd --gid 10001 pcbd \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pcbd \
 && install --directory --owner=10001 --group=10001 /models /data /pictures
USER 10001:10001
WORKDIR /opt/pcbd

FROM runtime AS gateway
COPY --from=gateway-builder /opt/pcbd /opt/pcbd
EXPOSE 8080
CMD ["python", "-m", "gateway"]

FROM runtime AS triton-cpu
COPY --from=triton-cpu-builder /opt/pcbd /opt/pcbd
EXPOSE 8000 8001 8002
CMD ["python", "-m", "export.server", "--model-repository", "/models/repository", "--", \
     "--http-address=0.0.0.0", "--grpc-address=0.0.0.0", "--metrics-address=0.0.0.0"]

FROM runtime AS export-cpu
COPY --from=export-cpu-builder /opt/pcbd /opt/pcbd
COPY tests/data/board.png /opt/pcbd/pictures/
# The shipped engines: a new volume starts with them, and nothing is built for the shipped checkpoint.
COPY --chown=10001:10001 model_repository/ /models/repository/
ENTRYPOINT ["python", "-m", "export.build", "--checkpoint", "/checkpoint", "--out", "/models/repository", \
            "--images", "/opt/pcbd/pictures", "--report", "/models/report/report.json", "--skip-existing"]
CMD ["--target", "openvino"]

# The Jobs of k8s/ name modules and the configurations that are here; torch is the one of the registry, with CUDA.
FROM runtime AS training
COPY --from=training-builder /opt/pcbd /opt/pcbd
COPY training/configs/ /opt/pcbd/training/configs/
CMD ["python", "-m", "training.train", "--help"]
