/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/linkage.h>
#include <asm/page.h>

/*
 * Fill page @dest with @word. memset() takes a third more instructions, because
 * it must cope with any length.
 *
 * Parameters:
 *	x0 - dest
 *	x1 - word
 */
SYM_FUNC_START(fill_page)
1:
	.set	offset, 0
	.rept	32
	stp	x1, x1, [x0, #offset]
	.set	offset, offset + 16
	.endr
	add	x0, x0, #512
	tst	x0, #(PAGE_SIZE - 1)
	b.ne	1b
	ret
SYM_FUNC_END(fill_page)
