/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_REFPAGE_H
#define _UAPI_LINUX_REFPAGE_H

/*
 * Flags of refpage_create(2).
 *
 * Without flags, the content is one page.
 *
 * With REFPAGE_PATTERN it is 1 << n bytes, repeated to fill the page, with n
 * in the upper six bits, as memfd_create(2) and mmap(2) carry the size of a
 * huge page.
 */
#define REFPAGE_PATTERN		0x0001U

#define REFPAGE_PATTERN_SHIFT	26
#define REFPAGE_PATTERN_MASK	0x3fU

/* The flags for a pattern of 1 << n bytes: 0 for one byte, 3 for 8 bytes */
#define REFPAGE_PATTERN_SIZE(n) \
	(REFPAGE_PATTERN | (unsigned int)(n) << REFPAGE_PATTERN_SHIFT)

#endif /* _UAPI_LINUX_REFPAGE_H */
