# shellcheck shell=bash disable=SC2034
KARCH=x86_64
CROSS_COMPILE=x86_64-linux-gnu-
KARCH_COMPAT=i386
CROSS_COMPILE_COMPAT=i686-linux-gnu-
IMAGE=vmlinux
DEBARCH=amd64
QEMU=qemu-system-x86_64
QEMU_ARGS=(-machine q35 -cpu max)
CONSOLE='console=ttyS0 earlycon=uart8250,io,0x3f8'
HWCAP2=0
