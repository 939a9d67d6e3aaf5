/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef SCULPTOR_MAPPINGS_H
#define SCULPTOR_MAPPINGS_H

/* Addresses from `start` up to `end`. */
struct mapping_record {
	__u64 start;
	__u64 end;
};

#endif
