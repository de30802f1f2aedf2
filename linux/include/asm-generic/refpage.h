/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_GENERIC_REFPAGE_H
#define _ASM_GENERIC_REFPAGE_H

/*
 * What mm/refpage.c asks of an architecture whose memory can have tags. This is
 * the form for memory that has none.
 */
#include <linux/highmem.h>
#include <linux/types.h>

/* How many values a tag has */
#define ARCH_REFPAGE_TAGS	1

/**
 * arch_refpage_read_tags - Give a new reference page the tags of its source
 * @page: The reference page, which nobody else knows yet.
 * @content: What the user asks to be copied.
 * @size: How many bytes: a power of two, up to a page. @content is aligned to
 *	  it, and copy_from_user() has just read all of it.
 *
 * The tags are repeated as the content is, and are 0 where the user has mapped
 * @content without tags, or where a granule is larger than @size. Nothing but
 * @page is written to.
 *
 * Context: May sleep. Nothing is locked.
 * Return: The tag, if it is the same in all of the page; ARCH_REFPAGE_TAGS, if
 *	   it is not; -EFAULT if the tags of @content cannot be read (any more).
 */
static inline int arch_refpage_read_tags(struct page *page,
					 const void __user *content,
					 unsigned int size)
{
	return 0;
}

/**
 * arch_refpage_zero - Zero a new page and set its tags, in one pass
 * @page: The page.
 * @tag: The tag for all of it.
 * @vma: The refpage mapping that it is for.
 *
 * Context: As refpage_fill().
 * Return: true if it is done; false if @vma has no tags: then the caller zeroes
 *	   the page.
 */
static inline bool arch_refpage_zero(struct page *page, u8 tag,
				     struct vm_area_struct *vma)
{
	return false;
}

/**
 * arch_refpage_copy - Copy a reference page, its tags included if @vma has tags
 * @to: A new page.
 * @from: The reference page.
 * @addr: The user address at which @to is going to be mapped.
 * @vma: The refpage mapping that @to is for.
 *
 * Context: As refpage_fill().
 * Return: 0, or what copy_mc_user_highpage() says of a memory error in @from.
 */
static inline int arch_refpage_copy(struct page *to, struct page *from,
				    unsigned long addr,
				    struct vm_area_struct *vma)
{
	return copy_mc_user_highpage(to, from, addr, vma);
}

#endif /* _ASM_GENERIC_REFPAGE_H */
