# kind's node: containerd 2 with kind's own configuration, which the closed network's node rewrites for containerd 1.6.
ARG NODE
FROM ${NODE}
RUN rm -f /usr/local/bin/containerd /usr/local/bin/ctr /usr/local/bin/containerd-shim-runc-v2 \
          /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2
COPY bin/containerd bin/ctr bin/containerd-shim-runc-v2 /usr/local/bin/
COPY config.toml /etc/containerd/config.toml
# What `kind build node-image` and kind's base image do to it. The last line is ours: a host that withholds
# CAP_SYS_RESOURCE cannot lower a score.
RUN sed -i "s|sandbox_image = .*|sandbox_image = \"$(cat /kind/pause-image)\"|" /etc/containerd/config.toml \
 && ctr oci spec | jq 'del(.process.rlimits) | .hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}]' \
    > /etc/containerd/cri-base.json \
 && sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml
