# shellcheck shell=bash disable=SC2034
KARCH=arm64
CROSS_COMPILE=aarch64-linux-gnu-
KARCH_COMPAT=arm
CROSS_COMPILE_COMPAT=arm-linux-gnueabihf-
IMAGE=arch/arm64/boot/Image
DEBARCH=arm64
QEMU=qemu-system-aarch64
# Pointer authentication with the architected algorithm costs TCG half its speed.
QEMU_ARGS=(-machine 'virt,mte=on' -cpu 'max,pauth-impdef=on')
CONSOLE='console=ttyAMA0 earlycon'
# Bits of AT_HWCAP2 without which init refuses to run anything: HWCAP2_MTE.
HWCAP2=0x40000
