# What stands in for base images where no registry is reached, on a Debian that debootstrap made (tests/docker/trial.py).
ARG PYTHON_IMAGE=pcbd-stand-in/python

# python:3.11-slim's place: Debian's Python 3.11, its shared library, and how this host trusts the package index.
FROM ${PYTHON_IMAGE} AS debian
RUN apt-get update && apt-get install --yes --no-install-recommends wget

FROM debian AS prometheus
RUN apt-get install --yes --no-install-recommends prometheus \
 && install --directory --owner=65534 --group=65534 /prometheus
ENTRYPOINT ["prometheus"]

FROM debian AS alertmanager
RUN apt-get install --yes --no-install-recommends prometheus-alertmanager \
 && install --directory --owner=65534 --group=65534 /alertmanager
ENTRYPOINT ["prometheus-alertmanager"]

# Grafana cannot be had from a package registry: this answers its health check, and no more.
FROM debian AS grafana
RUN mkdir --parents /www/api /var/lib/grafana && echo '{"database": "ok"}' > /www/api/health && chown 472:0 /var/lib/grafana
ENTRYPOINT ["python3", "-m", "http.server", "3000", "--directory", "/www"]

# Triton's container: the tritonserver of the nvidia-pytriton wheel, laid out as there. No GPU: where that one carries
# TensorRT for the models' Python, this carries OpenVINO and ONNX Runtime.
FROM debian AS triton
RUN apt-get install --yes --no-install-recommends python3-pip \
 && python3 -m pip install --break-system-packages --no-deps --target /wheel nvidia-pytriton==0.7.0 \
 && mkdir /opt/tritonserver \
 && mv /wheel/pytriton/tritonserver/bin /wheel/pytriton/tritonserver/backends /opt/tritonserver/ \
 && mv /wheel/pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub \
    /opt/tritonserver/backends/python/ \
 && mv /wheel/nvidia_pytriton.libs /opt/tritonserver/lib && rm -r /wheel
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    python3 -m pip install --break-system-packages --constraint /constraints.txt openvino onnxruntime numpy
ENV PATH=/opt/tritonserver/bin:${PATH} LD_LIBRARY_PATH=/opt/tritonserver/lib:/usr/lib/x86_64-linux-gnu
