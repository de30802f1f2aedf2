/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_REFPAGE_H
#define _LINUX_REFPAGE_H

#include <linux/fs.h>
#include <linux/mm.h>

#ifdef CONFIG_REFPAGE

extern const struct file_operations refpage_fops;
extern const struct vm_operations_struct refpage_vm_ops;

/**
 * file_is_refpage - Is this a descriptor made by refpage_create()?
 * @file: The file.
 *
 * Return: true if mappings of @file have the content of a reference page.
 */
static inline bool file_is_refpage(const struct file *file)
{
	return file->f_op == &refpage_fops;
}

/**
 * vma_is_refpage - Is this a mapping of a reference page?
 * @vma: The VMA.
 *
 * This comparison is the only way to tell. The special PTEs of such a VMA map
 * the reference page, except where KSM has put a zero page in place of a
 * private page of zeros.
 *
 * Return: true if an untouched page of @vma reads as the reference page.
 */
static inline bool vma_is_refpage(const struct vm_area_struct *vma)
{
	return vma->vm_ops == &refpage_vm_ops;
}

unsigned long refpage_pfn(const struct vm_area_struct *vma);
int refpage_fill(struct vm_area_struct *vma, struct page *page,
		 unsigned long addr);

#else /* CONFIG_REFPAGE */

static inline bool file_is_refpage(const struct file *file)
{
	return false;
}

static inline bool vma_is_refpage(const struct vm_area_struct *vma)
{
	return false;
}

static inline unsigned long refpage_pfn(const struct vm_area_struct *vma)
{
	return 0;
}

static inline int refpage_fill(struct vm_area_struct *vma, struct page *page,
			       unsigned long addr)
{
	return 0;
}

#endif /* CONFIG_REFPAGE */

/**
 * vma_is_anon_or_refpage - Do the missing pages of a VMA become anonymous ones?
 * @vma: The VMA.
 *
 * A refpage mapping is anonymous memory whose initial content is not zero.
 * Where code need not care what that content is, it asks this.
 *
 * Return: true if faults on @vma are served by do_anonymous_page().
 */
static inline bool vma_is_anon_or_refpage(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma) || vma_is_refpage(vma);
}

#endif /* _LINUX_REFPAGE_H */
