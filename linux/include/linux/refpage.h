/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_REFPAGE_H
#define _LINUX_REFPAGE_H

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mm.h>

#ifdef CONFIG_REFPAGE

extern const struct file_operations refpage_fops;

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

struct file *refpage_file_of_page(const void __user *content);
unsigned long refpage_pfn(const struct vm_area_struct *vma);
int refpage_fill(struct vm_area_struct *vma, struct page *page,
		 unsigned long addr);
bool refpage_same(const struct vm_area_struct *vma, struct page *page);
void count_refpage_load(const struct vm_area_struct *vma, unsigned long addr);
void count_refpage_fill(const struct vm_area_struct *vma, struct folio *folio,
			unsigned long addr);

#else /* CONFIG_REFPAGE */

static inline bool file_is_refpage(const struct file *file)
{
	return false;
}

static inline struct file *refpage_file_of_page(const void __user *content)
{
	return ERR_PTR(-EBADF);
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

static inline bool refpage_same(const struct vm_area_struct *vma,
				struct page *page)
{
	return false;
}

static inline void count_refpage_load(const struct vm_area_struct *vma,
				      unsigned long addr)
{
}

static inline void count_refpage_fill(const struct vm_area_struct *vma,
				      struct folio *folio, unsigned long addr)
{
}

#endif /* CONFIG_REFPAGE */

#endif /* _LINUX_REFPAGE_H */
