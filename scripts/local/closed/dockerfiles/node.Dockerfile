# A node image as `kind build node-image` makes it, from kind's own files (upstream/, out of the kind
# module) with Debian's containerd and runc in place of the ones kind builds.
ARG BASE
FROM ${BASE} AS system
RUN apt-install systemd conntrack iptables nftables iproute2 ethtool util-linux mount kmod \
    libseccomp2 pigz bash ca-certificates curl jq procps containerd runc

FROM system
COPY upstream/usr/local/bin/entrypoint /usr/local/bin/
COPY upstream/kind/bin/ /kind/bin/
COPY upstream/etc/ /etc/
COPY node/ /
COPY pause-image /kind/
COPY bin/kubeadm bin/kubectl bin/kubelet /usr/bin/
COPY bin/crictl /usr/local/bin/
COPY bin/ptp bin/loopback bin/host-local bin/portmap /opt/cni/bin/
ARG KUBERNETES_VERSION

RUN chmod -R a+rX /etc/systemd /etc/containerd /etc/sysctl.d /etc/default && chmod 755 /usr/local/bin/entrypoint /kind/bin/* \
 && ln -s /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2 /usr/local/bin/ \
 && sed -i -e "s|sandbox_image = .*|sandbox_image = \"$(cat /kind/pause-image)\"|" \
           -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' \
           -e '/base_runtime_spec/d' /etc/containerd/config.toml \
 && printf '\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n' >> /etc/containerd/config.toml \
 && rm -f /etc/systemd/system/containerd-fuse-overlayfs.service \
 && find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete \
 && rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
          /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
          /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \
 && echo ReadKMsg=no >> /etc/systemd/journald.conf && ln -sf /lib/systemd/systemd /sbin/init \
 && systemctl enable kubelet containerd undo-mount-hacks network-policies network-policies-table && systemctl mask systemd-binfmt.service \
 && systemctl set-default multi-user.target \
 && mkdir -p /kind/manifests /etc/kubernetes/manifests /etc/containerd/certs.d \
 && echo "${KUBERNETES_VERSION}" > /kind/version
COPY default-storage.yaml /kind/manifests/
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]
