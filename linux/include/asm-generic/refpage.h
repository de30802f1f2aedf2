/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_GENERIC_REFPAGE_H
#define _ASM_GENERIC_REFPAGE_H

/*
 * What mm/refpage.c asks of an architecture, in the form for one whose memory
 * has no tags and whose memset() is good enough for a page. An architecture that
 * does better has an asm/refpage.h, which defines what is different as a macro,
 * too, and includes this.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/types.h>

/* How many values a tag has */
#ifndef ARCH_REFPAGE_TAGS
#define ARCH_REFPAGE_TAGS	1
#endif

#ifndef arch_refpage_fill
/**
 * arch_refpage_fill - Fill a page with a word
 * @kaddr: The page.
 * @word: The word, in the byte order of memory.
 *
 * Context: Any.
 */
static inline void arch_refpage_fill(void *kaddr, u64 word)
{
	if (word == (u8)word * 0x0101010101010101ULL)
		memset(kaddr, word, PAGE_SIZE);
	else
		memset64(kaddr, word, PAGE_SIZE / sizeof(word));
}
#endif

#ifndef arch_refpage_read_tags
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
#endif

#ifndef arch_refpage_zero
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
#endif

#ifndef arch_refpage_copy
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
#endif

#ifndef arch_refpage_same
/**
 * arch_refpage_same - Does a page hold what a reference page holds, with tags?
 * @page: A private page of @vma that nobody can write to now.
 * @from: The reference page.
 * @vma: The refpage mapping. If it has no tags, those of @page count as 0: they
 *	 would become visible if it is given tags.
 *
 * Context: Any.
 * Return: true if a user of @vma could not tell @from from @page.
 */
static inline bool arch_refpage_same(struct page *page, struct page *from,
				     const struct vm_area_struct *vma)
{
	return pages_identical(page, from);
}
#endif

#endif /* _ASM_GENERIC_REFPAGE_H */
