# landmark-dir on the CPU, with its weights: it needs no network when it runs.
#   docker build -t landmark-dir .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" landmark-dir register fixed.nii.gz moving.nii.gz -o run
FROM python:3.11-slim-bookworm

# where pip finds torch without CUDA, which would be several GB more
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN --mount=type=bind,target=/source,rw \
    pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c /source/constraints.txt /source \
    && landmark-dir info

# any user may run it: what is written goes to the mounted folder
ENV HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["landmark-dir"]
CMD ["--help"]
