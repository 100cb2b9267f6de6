# An image of your own: Debian packages that no wheel brings, and the same locked Python packages.
#
# Copy it beside job.yaml, and write there   environment: {dockerfile: train.Dockerfile}
# launcher builds it beside the GPU, out of the bundle. All that the agent wants of it is python3 3.8 or newer.
# Without such needs leave it away: launcher's own image has the exact interpreter of the lock, and one changed
# package costs seconds (README.md). For Debian packages alone `environment: {apt: [libgl1]}` is enough.
FROM ubuntu:24.04

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates libgl1 libglib2.0-0 python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# what changes most comes last; job code is not in the image, the agent unpacks it
COPY requirements.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/requirements.lock
