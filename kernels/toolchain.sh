#!/bin/sh
# Install what the kernels for AMD and NVIDIA GPUs are compiled with, on Debian, as root: clang and lld; and llvm, which
# brings llvm-objdump, with which the tests read AMD's code objects. Where that cannot be done `make kernels` goes on
# without them, and says so.
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
packages="clang-22 lld-22 llvm-22"
echo "toolchain.sh: installing $packages for the GPUs' code objects"
apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
    echo "toolchain.sh: $packages cannot be installed from this machine's package sources"
