# Shared by the scripts of this folder.

# The newest Rust that the Qdrant test server needs, from its own manifest.
engine_rust() {
    sed -n 's/^rust-version = "\(.*\)"$/\1/p' sandbox/qdrant/Cargo.toml
}

# Whether a Rust compiler ($1) is as new as the Qdrant test server needs it.
is_new_enough() {
    local has
    has=$("$1" --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$has" ] && printf '%s\n%s\n' "$(engine_rust)" "$has" | sort -CV
}

default_is_new_enough() {
    is_new_enough rustc
}

# The folder of Debian's own toolchain, if it is there and new enough.
debian_toolchain() {
    [ -x /usr/bin/cargo ] && is_new_enough /usr/bin/rustc && echo /usr/bin
}

# The path of a program: in PATH, where only root looks, or where Debian keeps Postgres' programs.
find_program() {
    PATH="$PATH:/usr/sbin:/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)" command -v "$1"
}

# The lines of packages.txt, or of another such list, that say something.
packages() {
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "${1:-scripts/packages.txt}"
}

# Installs a cargo tool ($1) in a version ($2), unless one is there.
cargo_tool() {
    cargo "$1" --version >/dev/null 2>&1 || cargo install --quiet --locked "cargo-$1" --version "$2"
}
