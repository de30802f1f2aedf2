/* SPDX-License-Identifier: GPL-2.0 */
/* The size of the folios that anonymous memory gets: sysfs of THP. */
#ifndef BENCH_FOLIOS_H
#define BENCH_FOLIOS_H

#include <stddef.h>

/*
 * Call @measure(@arg) in a child, which may use choose_folios(), and put all
 * settings back when it has ended, in whatever way. Returns the exit status.
 */
int with_folio_settings(int (*measure)(const void *arg), const void *arg);

/*
 * Let page faults, of the whole machine, allocate folios of @size bytes where
 * these fit and the base page elsewhere, and keep khugepaged from doing anything
 * about it. Returns NULL, or what is in the way, for a message.
 */
const char *choose_folios(size_t size);

/*
 * How many folios of @size page faults have allocated since boot, on the whole
 * machine; -1 if the kernel does not count them. And how many bytes in folios
 * of all sizes that it counts, which are those larger than the base page.
 */
long long count_folios(size_t size);
long long count_larger_bytes(void);

#endif
