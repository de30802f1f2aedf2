/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM refpage

#if !defined(_TRACE_REFPAGE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_REFPAGE_H

#include <linux/tracepoint.h>

/**
 * refpage_create - called when there is content for a descriptor or MAP_REFPAGE
 * @pfn: The page of content, which other descriptors may have, too.
 * @kind: What the content is, in the words of fdinfo.
 * @size: Bytes of content that were given.
 * @byte: If @kind is "byte", that.
 * @tag: If @kind is "tag", the memory tag.
 */
TRACE_EVENT(refpage_create,

	TP_PROTO(unsigned long pfn, const char *kind, unsigned int size,
		 unsigned int byte, unsigned int tag),

	TP_ARGS(pfn, kind, size, byte, tag),

	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__string(kind, kind)
		__field(unsigned int, size)
		__field(unsigned int, byte)
		__field(unsigned int, tag)
	),

	TP_fast_assign(
		__entry->pfn = pfn;
		__assign_str(kind);
		__entry->size = size;
		__entry->byte = byte;
		__entry->tag = tag;
	),

	TP_printk("pfn=0x%lx kind=%s size=%u byte=0x%02x tag=0x%x",
		  __entry->pfn, __get_str(kind), __entry->size, __entry->byte,
		  __entry->tag)
);

/**
 * refpage_load - called when a load has mapped the page of content
 * @addr: The address of the page that was loaded from.
 * @pfn: The page of content.
 */
TRACE_EVENT(refpage_load,

	TP_PROTO(unsigned long addr, unsigned long pfn),

	TP_ARGS(addr, pfn),

	TP_STRUCT__entry(
		__field(unsigned long, addr)
		__field(unsigned long, pfn)
	),

	TP_fast_assign(
		__entry->addr = addr;
		__entry->pfn = pfn;
	),

	TP_printk("addr=0x%lx pfn=0x%lx", __entry->addr, __entry->pfn)
);

/**
 * refpage_fill - called when a fault has mapped a private folio with content
 * @addr: The address at which the folio begins.
 * @pfn: The first page of the folio.
 * @order: Its size: 1 << @order pages.
 * @kind: What the content is, in the words of fdinfo.
 */
TRACE_EVENT(refpage_fill,

	TP_PROTO(unsigned long addr, unsigned long pfn, unsigned int order,
		 const char *kind),

	TP_ARGS(addr, pfn, order, kind),

	TP_STRUCT__entry(
		__field(unsigned long, addr)
		__field(unsigned long, pfn)
		__field(unsigned int, order)
		__string(kind, kind)
	),

	TP_fast_assign(
		__entry->addr = addr;
		__entry->pfn = pfn;
		__entry->order = order;
		__assign_str(kind);
	),

	TP_printk("addr=0x%lx pfn=0x%lx order=%u kind=%s",
		  __entry->addr, __entry->pfn, __entry->order, __get_str(kind))
);

#endif /* _TRACE_REFPAGE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
