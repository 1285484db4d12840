# shellcheck shell=bash
# Root file systems of other Debian releases, made by debootstrap once and kept. Sourced by scripts that try things there.
#
#   debian_root SUITE DIR PACKAGE,PACKAGE   makes DIR unless it is there, and lets it reach what this machine reaches
#   in_debian_root DIR COMMAND ...          runs a command in it; needs root
#
# Where it cannot be had, the script ends with the status 2 and says why.

not_run() {
    echo "$(basename "$0" .sh): not run: $1" >&2
    exit 2
}

debian_root() {
    local suite=$1 root=$2 packages=$3 mirror
    [ "$(id -u)" = 0 ] || not_run "a chroot needs root"
    if [ ! -f "$root/.complete" ]; then
        command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap >/dev/null ||
            not_run "debootstrap cannot be installed"
        mirror=$(sed -nE 's/^deb (\[[^]]*\] )?(http[^ ]+) .*/\2/p; s/^URIs: *([^ ]+).*/\1/p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v -- -security | head -n 1 || true)
        [ -n "$mirror" ] || not_run "no Debian mirror in /etc/apt/sources.list*"
        rm -rf "$root"
        mkdir -p "$(dirname "$root")"
        echo "making $root (log: $root.log)" >&2
        debootstrap --variant=minbase --include="ca-certificates,$packages" "$suite" "$root" "$mirror" \
            >"$root.log" 2>&1 || not_run "debootstrap failed: $(tail -n 1 "$root.log")"
        touch "$root/.complete"
    fi
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" # with what this machine trusts besides
    [ ! -f /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"
    # A mirror may be behind: whether its lists are too old is decided here as on this machine.
    apt-config dump Acquire::Check-Valid-Until >"$root/etc/apt/apt.conf.d/99turboapi"
}

in_debian_root() {
    unshare --mount bash -euc \
        'mount --bind /proc "$1/proc"; mount --rbind /dev "$1/dev"; root=$1; shift; exec chroot "$root" "$@"' _ "$@"
}
