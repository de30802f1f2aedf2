/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __ASM_REFPAGE_H
#define __ASM_REFPAGE_H

/* See include/asm-generic/refpage.h for what is promised */
#include <asm/page.h>

#define arch_refpage_fill	fill_page

#ifdef CONFIG_ARM64_MTE

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <asm/mte.h>

#define ARCH_REFPAGE_TAGS	(1 << MTE_TAG_SIZE)

#define arch_refpage_read_tags	mte_read_user_tags

#define arch_refpage_zero arch_refpage_zero
static inline bool arch_refpage_zero(struct page *page, u8 tag,
				     struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_MTE))
		return false;

	tag_set_highpage(page, tag);
	return true;
}

#define arch_refpage_copy arch_refpage_copy
static inline int arch_refpage_copy(struct page *to, struct page *from,
				    unsigned long addr,
				    struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_MTE)
		return copy_mc_user_highpage(to, from, addr, vma);

	/* @from has tags in any case; do not give them to @to. */
	if (copy_mc_to_kernel(page_address(to), page_address(from), PAGE_SIZE))
		return -EHWPOISON;
	flush_dcache_page(to);
	return 0;
}

#define arch_refpage_same arch_refpage_same
static inline bool arch_refpage_same(struct page *page, struct page *from,
				     const struct vm_area_struct *vma)
{
	return !memcmp(page_address(page), page_address(from), PAGE_SIZE) &&
	       mte_same_tags(vma->vm_flags & VM_MTE ? page : NULL, from);
}

#endif /* CONFIG_ARM64_MTE */

#include <asm-generic/refpage.h>

#endif /* __ASM_REFPAGE_H */
