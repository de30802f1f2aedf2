// SPDX-License-Identifier: GPL-2.0
/*
 * Reference pages: private memory that is born with content other than zero.
 *
 * See Documentation/userspace-api/refpage.rst for the contract and
 * Documentation/mm/refpage.rst for how it works.
 */
#include <linux/cacheflush.h>
#include <linux/cacheinfo.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/kmsan-checks.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/pseudo_fs.h>
#include <linux/refpage.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <linux/vmstat.h>

#include <asm/refpage.h>

#include <uapi/linux/refpage.h>

#define CREATE_TRACE_POINTS
#include <trace/events/refpage.h>

/**
 * struct refpage - what a descriptor of refpage_create() stands for
 * @page: One page of content. Complete before the descriptor exists and never
 *	  written again. Owned by the file, which every VMA that maps it pins;
 *	  so PTEs need not hold references and do not (see refpage_pfn()).
 * @size: Bytes of content that the creator gave.
 * @is_uniform: All of the page is @byte, and all its memory tags are @tag; one
 *		of them is 0. Then it is the page of a struct refpage_uniform.
 * @is_word: All of the page is @word, and no memory tag but @tag is not 0. Then
 *	     it need not be read to be copied.
 * @byte: The value, if @is_uniform.
 * @tag: The memory tag, if @is_uniform; otherwise 0.
 * @word: The value, if @is_word.
 */
struct refpage {
	struct page *page;
	unsigned int size;
	bool is_uniform;
	bool is_word;
	u8 byte;
	u8 tag;
	u64 word;
};

/**
 * struct refpage_uniform - a page that descriptors of equal content share
 * @page: The page, or NULL as long as there is no such descriptor.
 * @users: How many there are. Each has a reference to @page.
 *
 * Many processes ask for the same few bytes or tags: one unmovable page for
 * each of those is enough for all of them.
 */
struct refpage_uniform {
	struct page *page;
	unsigned long users;
};

static DEFINE_MUTEX(refpage_uniform_lock);

/* All bytes with tag 0, then byte 0 with all the other tags */
static struct refpage_uniform refpage_uniforms[256 + ARCH_REFPAGE_TAGS - 1];

/* Not movable. The memory tags are those of user space, not KASAN's. */
#define GFP_REFPAGE	(GFP_HIGHUSER | __GFP_SKIP_KASAN)

static struct vfsmount *refpage_mnt __ro_after_init;

static const struct refpage *vma_refpage(const struct vm_area_struct *vma)
{
	return vma->vm_file->private_data;
}

/**
 * refpage_pfn - The page frame that an untouched page of a VMA reads
 * @vma: A VMA for which vma_is_refpage() holds.
 *
 * It is mapped by special PTEs, as a zero page is: no reference, no mapcount
 * (which a user could overflow by mapping it often enough), no RSS. What keeps
 * it alive is vma->vm_file, let go only after the PTEs are zapped and the TLB
 * is flushed.
 *
 * Context: The mmap lock or the VMA lock is held.
 * Return: The page frame number of the reference page.
 */
unsigned long refpage_pfn(const struct vm_area_struct *vma)
{
	return page_to_pfn(vma_refpage(vma)->page);
}

/**
 * refpage_fill - Give a new page the content of a refpage mapping
 * @vma: A VMA for which vma_is_refpage() holds.
 * @page: The page, not yet visible to anybody else; of any content.
 * @addr: The user address at which it is going to be mapped.
 *
 * If @vma has memory tags, those of the reference page are copied with the
 * content; otherwise they are not set.
 *
 * Context: Does not sleep. The mmap lock or the VMA lock is held.
 * Return: 0, or -EHWPOISON if the copy met a memory error in the reference
 *	   page, where the architecture can tell.
 */
int refpage_fill(struct vm_area_struct *vma, struct page *page,
		 unsigned long addr)
{
	const struct refpage *refpage = vma_refpage(vma);
	void *kaddr;

	if (!refpage->is_word) {
		if (arch_refpage_copy(page, refpage->page, addr, vma))
			return -EHWPOISON;
		return 0;
	}

	if (!refpage->word && arch_refpage_zero(page, refpage->tag, vma))
		return 0;

	kaddr = kmap_local_page(page);
	arch_refpage_fill(kaddr, refpage->word);
	kmsan_unpoison_memory(kaddr, PAGE_SIZE);
	kunmap_local(kaddr);
	/* Never executed, so that only an alias of the address matters. */
	if (cpu_dcache_is_aliasing())
		flush_dcache_page(page);
	return 0;
}

/**
 * refpage_same - Could the reference page take the place of a private page?
 * @vma: A VMA for which vma_is_refpage() holds.
 * @page: The private page. If it can be written to meanwhile, so can the answer
 *	  be wrong.
 *
 * Context: Any. @vma cannot go away.
 * Return: true if @page holds the content of @vma, memory tags included.
 */
bool refpage_same(const struct vm_area_struct *vma, struct page *page)
{
	return arch_refpage_same(page, vma_refpage(vma)->page, vma);
}

/* How memory is filled, in one word, which is part of the ABI. */
static const char *refpage_kind(const struct refpage *refpage)
{
	if (refpage->is_uniform)
		return refpage->tag ? "tag" : "byte";
	return refpage->size < PAGE_SIZE ? "pattern" : "page";
}

/* Out of line, for the sake of faults that nobody traces. */
static noinline void trace_fill(const struct vm_area_struct *vma,
				struct folio *folio, unsigned long addr)
{
	trace_refpage_fill(addr, folio_pfn(folio), folio_order(folio),
			   refpage_kind(vma_refpage(vma)));
}

static noinline void trace_load(const struct vm_area_struct *vma,
				unsigned long addr)
{
	trace_refpage_load(addr, refpage_pfn(vma));
}

/**
 * count_refpage_load - Note that a load has mapped the reference page
 * @vma: A VMA for which vma_is_refpage() holds.
 * @addr: The address of the load.
 *
 * Context: Any. The mmap lock or the VMA lock is held.
 */
void count_refpage_load(const struct vm_area_struct *vma, unsigned long addr)
{
	count_vm_event(REFPAGE_LOAD);
	if (trace_refpage_load_enabled())
		trace_load(vma, addr);
}

/**
 * count_refpage_fill - Note that a fault has made pages private
 * @vma: A VMA for which vma_is_refpage() holds.
 * @folio: What has been filled and mapped. Nobody need hold a reference.
 * @addr: Where it begins.
 *
 * Context: Any. The mmap lock or the VMA lock is held, and the page table lock
 *	    unless @folio cannot go away for another reason.
 */
void count_refpage_fill(const struct vm_area_struct *vma, struct folio *folio,
			unsigned long addr)
{
	count_vm_events(REFPAGE_FILL, folio_nr_pages(folio));
	if (trace_refpage_fill_enabled())
		trace_fill(vma, folio, addr);
}

/* Special PTEs of a refpage VMA map no page that rmap or RSS knows. */
static struct page *refpage_find_special_page(struct vm_area_struct *vma,
					      unsigned long addr)
{
	return NULL;
}

/*
 * No ->fault: do_fault() knows these VMAs. No ->close: it would prevent
 * neighbours from merging.
 */
const struct vm_operations_struct refpage_vm_ops = {
	.find_special_page = refpage_find_special_page,
};

static int refpage_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &refpage_vm_ops;
	return 0;
}

/*
 * Place mappings as anonymous memory. Called before do_mmap() looks at the
 * protection, and so the place to refuse a shared mapping with the same error
 * whatever that is.
 */
static unsigned long refpage_get_unmapped_area(struct file *file,
					       unsigned long addr,
					       unsigned long len,
					       unsigned long pgoff,
					       unsigned long flags)
{
	if (flags & MAP_SHARED)
		return -EINVAL;

	return __get_unmapped_area(NULL, addr, len, 0, flags, 0);
}

static void refpage_show_fdinfo(struct seq_file *m, struct file *file)
{
	const struct refpage *refpage = file->private_data;

	seq_printf(m, "refpage-kind:\t%s\n", refpage_kind(refpage));
	seq_printf(m, "refpage-size:\t%u\n", refpage->size);
	if (!refpage->is_uniform)
		return;
	if (refpage->tag)
		seq_printf(m, "refpage-tag:\t0x%x\n", refpage->tag);
	else
		seq_printf(m, "refpage-byte:\t0x%02x\n", refpage->byte);
}

static void refpage_account(struct page *page, bool shared, int sign)
{
	struct pglist_data *pgdat = page_pgdat(page);

	mod_node_page_state(pgdat, NR_REFPAGE, sign);
	if (shared)
		mod_node_page_state(pgdat, NR_REFPAGE_SHARED, sign);
}

static struct refpage_uniform *refpage_uniform(const struct refpage *refpage)
{
	unsigned int i = refpage->byte;

	if (refpage->tag)
		i = 255 + refpage->tag;
	return &refpage_uniforms[i];
}

/*
 * Exchange a page of uniform content for the one that the kernel has of it. A
 * new one is charged to nobody: the first who asks may be gone before others.
 */
static int refpage_share(struct refpage *refpage)
{
	struct refpage_uniform *uniform = refpage_uniform(refpage);
	int err = -ENOMEM;

	mutex_lock(&refpage_uniform_lock);
	if (uniform->page && PageHWPoison(uniform->page)) {
		/* Those who have it cannot get rid of it, but nobody else. */
		refpage_account(uniform->page, true, -1);
		uniform->page = NULL;
		uniform->users = 0;
	}
	if (uniform->page) {
		get_page(uniform->page);
	} else {
		uniform->page = alloc_page(GFP_REFPAGE);
		if (!uniform->page)
			goto out_unlock;
		copy_highpage(uniform->page, refpage->page);
		flush_dcache_page(uniform->page);
		refpage_account(uniform->page, true, 1);
	}
	uniform->users++;
	put_page(refpage->page);
	refpage->page = uniform->page;
	err = 0;

out_unlock:
	mutex_unlock(&refpage_uniform_lock);
	return err;
}

static void refpage_unshare(const struct refpage *refpage)
{
	struct refpage_uniform *uniform = refpage_uniform(refpage);

	mutex_lock(&refpage_uniform_lock);
	if (uniform->page == refpage->page && !--uniform->users) {
		refpage_account(uniform->page, true, -1);
		uniform->page = NULL;
	}
	mutex_unlock(&refpage_uniform_lock);
}

static void refpage_free(const struct refpage *refpage)
{
	if (refpage->is_uniform)
		refpage_unshare(refpage);
	else
		refpage_account(refpage->page, false, -1);
	/* A pin, say of a pipe, may outlive the last descriptor. */
	put_page(refpage->page);
	kfree(refpage);
}

static int refpage_release(struct inode *inode, struct file *file)
{
	refpage_free(file->private_data);
	return 0;
}

const struct file_operations refpage_fops = {
	.release		= refpage_release,
	.mmap			= refpage_mmap,
	.get_unmapped_area	= refpage_get_unmapped_area,
	.show_fdinfo		= refpage_show_fdinfo,
};

/*
 * Is this content for a struct refpage_uniform? The caller says so with a small
 * pattern: a byte, a word, the granule of a tag. Larger ones are not searched
 * for it, except a whole page, for which there may have been no other way.
 */
static bool refpage_is_uniform(const u8 *content, unsigned int size, int tag,
			       bool whole_page)
{
	if (tag && (content[0] || tag == ARCH_REFPAGE_TAGS))
		return false;
	if (size > 16 && !whole_page)
		return false;
	return !memchr_inv(content, content[0], size);
}

/* Read the content and repeat it, all before anybody can map the page. */
static int refpage_read_content(struct refpage *refpage,
				const void __user *content, bool whole_page)
{
	unsigned int size = refpage->size;
	int tag, ret = -EFAULT;
	u8 *kaddr;

	kaddr = kmap_local_page(refpage->page);
	if (copy_from_user(kaddr, content, size))
		goto out_unmap;

	ret = arch_refpage_read_tags(refpage->page, content, size);
	if (ret < 0)
		goto out_unmap;

	tag = ret;
	ret = 0;
	refpage->is_uniform = refpage_is_uniform(kaddr, size, tag, whole_page);
	if (refpage->is_uniform) {
		refpage->byte = kaddr[0];
		refpage->tag = tag;
	}

	refpage->is_word = refpage->is_uniform ||
			   (!tag && size <= sizeof(refpage->word));

	for (; size < PAGE_SIZE; size *= 2)
		memcpy(kaddr + size, kaddr, size);
	memcpy(&refpage->word, kaddr, sizeof(refpage->word));

out_unmap:
	kunmap_local(kaddr);
	flush_dcache_page(refpage->page);
	return ret;
}

static struct refpage *refpage_alloc(const void __user *content,
				     unsigned int size, bool whole_page)
{
	struct refpage *refpage;
	int err = -ENOMEM;

	refpage = kzalloc(sizeof(*refpage), GFP_KERNEL_ACCOUNT);
	if (!refpage)
		return ERR_PTR(-ENOMEM);

	refpage->page = alloc_page(GFP_REFPAGE | __GFP_ACCOUNT);
	if (!refpage->page)
		goto err_free;

	refpage->size = size;
	err = refpage_read_content(refpage, content, whole_page);
	if (!err && refpage->is_uniform)
		err = refpage_share(refpage);
	if (err)
		goto err_put_page;
	if (!refpage->is_uniform)
		refpage_account(refpage->page, false, 1);

	return refpage;

err_put_page:
	put_page(refpage->page);
err_free:
	kfree(refpage);
	return ERR_PTR(err);
}

/* A file that owns @refpage. */
static struct file *refpage_alloc_file(struct refpage *refpage)
{
	struct inode *inode;
	struct file *file;

	/*
	 * Its own inode, not that of anon_inode_getfile(): VMAs of unrelated
	 * descriptors must not contend for one i_mmap lock.
	 */
	inode = alloc_anon_inode(refpage_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	file = alloc_file_pseudo(inode, refpage_mnt, "[refpage]", O_RDONLY,
				 &refpage_fops);
	if (IS_ERR(file)) {
		iput(inode);
		return file;
	}

	file->private_data = refpage;
	return file;
}

static struct file *refpage_open(const void __user *content,
				 unsigned int size, bool whole_page)
{
	struct refpage *refpage;
	struct file *file;

	refpage = refpage_alloc(content, size, whole_page);
	if (IS_ERR(refpage))
		return ERR_CAST(refpage);

	file = refpage_alloc_file(refpage);
	if (IS_ERR(file)) {
		refpage_free(refpage);
		return file;
	}

	trace_refpage_create(page_to_pfn(refpage->page), refpage_kind(refpage),
			     size, refpage->byte, refpage->tag);
	return file;
}

/**
 * refpage_file_of_page - Do what refpage_create() does, without a descriptor
 * @content: A page of content, aligned to its size.
 *
 * Context: May sleep. The mmap lock is not held.
 * Return: A file to be mapped, or an error of refpage_create() but -EMFILE.
 */
struct file *refpage_file_of_page(const void __user *content)
{
	return refpage_open(content, PAGE_SIZE, true);
}

/* The bytes of content that @flags announce; 0 if the flags are invalid. */
static unsigned int refpage_content_size(unsigned int flags)
{
	unsigned int n = flags >> REFPAGE_PATTERN_SHIFT & REFPAGE_PATTERN_MASK;

	if (!flags)
		return PAGE_SIZE;
	if (flags != REFPAGE_PATTERN_SIZE(n) || n > PAGE_SHIFT)
		return 0;
	return 1U << n;
}

/**
 * sys_refpage_create - Create a descriptor for memory born with content
 * @content: The content: a page, or with REFPAGE_PATTERN 1 << n bytes that are
 *	     repeated to fill one. Aligned to its size. Copied during the call,
 *	     with its memory tags if it has any.
 * @flags: 0, or REFPAGE_PATTERN_SIZE(n).
 *
 * A private mapping of the descriptor, at any offset, reads the content
 * everywhere and copies it on the first store.
 *
 * Return: A new close-on-exec file descriptor, or
 *	   -EINVAL: unknown flags, size over a page, @content not aligned;
 *	   -EFAULT: @content cannot be read;
 *	   -EMFILE, -ENFILE, -ENOMEM: too many descriptors or files, or no
 *	   memory, in the system or the memory cgroup.
 */
SYSCALL_DEFINE2(refpage_create, const void __user *, content,
		unsigned int, flags)
{
	unsigned int size = refpage_content_size(flags);
	struct file *file;
	int fd;

	if (!size || !IS_ALIGNED((unsigned long)content, size))
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	file = refpage_open(content, size, !flags);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}

	fd_install(fd, file);
	return fd;
}

static char *refpage_dname(struct dentry *dentry, char *buffer, int buflen)
{
	return dynamic_dname(buffer, buflen, "anon_inode:%s",
			     dentry->d_name.name);
}

static const struct dentry_operations refpage_dentry_ops = {
	.d_dname	= refpage_dname,
};

static int refpage_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, REFPAGE_MAGIC);

	if (!ctx)
		return -ENOMEM;

	ctx->dops = &refpage_dentry_ops;
	/* Content is data: mmap() refuses PROT_EXEC, and so does mprotect(). */
	fc->s_iflags |= SB_I_NOEXEC;
	return 0;
}

static struct file_system_type refpage_fs_type = {
	.name			= "refpagefs",
	.init_fs_context	= refpage_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static int __init refpage_init(void)
{
	refpage_mnt = kern_mount(&refpage_fs_type);
	if (IS_ERR(refpage_mnt))
		panic("refpage: cannot mount: %pe\n", refpage_mnt);
	return 0;
}
fs_initcall(refpage_init);
