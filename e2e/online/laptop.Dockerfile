# A developer's machine: Debian trixie, Docker from its own packages, Git, make, Python 3.13. No Go, no kind, no helm.
ARG TRIXIE
FROM ${TRIXIE}
RUN export DEBIAN_FRONTEND=noninteractive && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
    docker.io docker-cli docker-buildx git make python3 python3-venv ca-certificates iptables procps >/dev/null \
 && rm -rf /var/lib/apt/lists/* && mkdir -p /lib/modules
# The home has a space in its name: many a Mac's has.
RUN useradd --create-home --home-dir "/home/Ada Lovelace" --groups docker --shell /bin/bash ada
# What this network re-signs TLS with, as an administrator would have installed it.
COPY host.crt /tmp/host.crt
RUN cat /tmp/host.crt >> /etc/ssl/certs/ca-certificates.crt
COPY runc-bounded runc_bounded.py /usr/local/lib/runc/
RUN chmod 755 /usr/local/lib/runc/runc-bounded
CMD ["dockerd"]
