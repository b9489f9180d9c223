# What repo-server needs beside its own program: git, tini, gpg with its agent, ssh and Helm.
ARG BASE
FROM ${BASE} AS system
RUN groupadd -g 999 argocd && useradd -r -u 999 -g argocd argocd \
 && mkdir -p /home/argocd && chown argocd:0 /home/argocd && chmod g=u /home/argocd \
 && apt-install git tini ca-certificates openssh-client gpg gpg-agent \
 && mkdir -p /app/config/ssh /app/config/tls /app/config/gpg/source /app/config/gpg/keys \
 && touch /app/config/ssh/ssh_known_hosts \
 && chown argocd /app/config/gpg/keys && chmod 700 /app/config/gpg/keys

FROM system
COPY upstream/hack/gpg-wrapper.sh upstream/hack/git-verify-wrapper.sh upstream/entrypoint.sh /usr/local/bin/
COPY bin/argocd bin/helm /usr/local/bin/
RUN cd /usr/local/bin && chmod +x *.sh \
 && for name in repo-server application-controller; do ln -s argocd argocd-$name; done
ENV USER=argocd
USER 999
WORKDIR /home/argocd
ENTRYPOINT ["/usr/bin/tini", "--"]
