# Only a build stage starts from this image, so the host's CA bundle and pip's configuration (an index's
# address may carry a password) never reach an image that is pushed.
ARG PYTHON
FROM ${PYTHON}
# Debian's python3 comes without what makes a virtual environment; the public image's has it.
RUN python3 -c 'import ensurepip' 2>/dev/null || apt-install python3-venv python3-pip-whl python3-setuptools-whl
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1
