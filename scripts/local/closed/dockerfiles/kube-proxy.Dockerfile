ARG BASE
FROM ${BASE} AS system
RUN apt-install iptables nftables conntrack kmod

FROM system
COPY bin/kube-proxy /usr/local/bin/
