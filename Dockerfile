# landmark-dir on the CPU, with its weights: it needs no network when it runs.
#   docker build -t landmark-dir .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" landmark-dir register fixed.nii.gz moving.nii.gz -o run
FROM python:3.11-slim-bookworm

# where pip finds torch without CUDA, which would be several GB
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /source
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --index-url "${TORCH_INDEX}" torch \
    && pip install --no-cache-dir -c constraints.txt . \
    && rm -rf /source/* \
    && landmark-dir info

# any user may run it: what is written goes to the mounted folder
ENV HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["landmark-dir"]
CMD ["--help"]
