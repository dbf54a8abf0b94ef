# The image: one static program in an empty root, for whoever is not root. docs/kubernetes.md tells how to build and use it.
#
# The project's own machines have no container engine, so this file itself has not been built there. What it builds has: `make deep ONLY=release`
# builds the same program with the same flags, and runs it in an empty root.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
# Without a shared library: glibc's own files and DNS are in it since 2.34, so names resolve in an empty root. With a target of its own, macros,
# which are shared libraries, are built as ever.
ENV CARGO_TARGET_DIR=/target \
    RUSTFLAGS="-C target-feature=+crt-static"
# What we depend on first, with nothing in our packages: this layer lasts until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY sandbox/Cargo.toml sandbox/
RUN mkdir -p src sandbox/src \
    && echo 'fn main() {}' > src/main.rs && touch src/lib.rs sandbox/src/lib.rs \
    && rustc -vV | sed -n 's/^host: //p' > /host \
    && cargo build --release --locked --package course-gc --target "$(cat /host)"
COPY migrations migrations
COPY src src
# Cargo goes by times, and those of the empty files are later.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package course-gc --target "$(cat /host)" \
    && mkdir -p /root-of-image/usr/bin /root-of-image/etc/ssl/certs \
    && cp "/target/$(cat /host)/release/course-gc" /root-of-image/usr/bin/ \
    && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ \
    && echo 'course-gc:x:65532:65532::/:' > /root-of-image/etc/passwd \
    && /root-of-image/usr/bin/course-gc --version

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="course-gc" \
      org.opencontainers.image.description="Finds and removes what deleted courses leave behind, and never touches a live one" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /root-of-image/ /
USER 65532:65532
ENV PATH=/usr/bin \
    COURSE_GC_CONFIG=/etc/course-gc/course-gc.yaml
EXPOSE 9090
# For engines that know no probes; Kubernetes asks over HTTP.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/usr/bin/course-gc", "health"]
ENTRYPOINT ["/usr/bin/course-gc"]
CMD ["serve"]
