/* Bytes in and out by TinyGo's convention: the host allocates arguments with malloc and frees them after the call; an export
   answers with address << 32 | length, which the host copies and frees. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))

static int live; /* blocks that are allocated */
static int initialized;

__attribute__((constructor)) static void initialize(void) { initialized = 1; }

EXPORT(malloc) void *counted_malloc(size_t size) {
	void *block = malloc(size);
	live += block != 0;
	return block;
}

EXPORT(free) void counted_free(void *block) {
	live -= block != 0;
	free(block);
}

static uint64_t packed(const char *bytes, uint32_t length) { return (uint64_t)(uintptr_t)bytes << 32 | length; }

EXPORT(upper) uint64_t upper(const char *text, uint32_t length) {
	char *result = counted_malloc(length);
	for (uint32_t i = 0; i < length; i++)
		result[i] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i];
	return packed(result, length);
}

EXPORT(join) uint64_t join(const char *a, uint32_t a_length, int32_t times, const char *b, uint32_t b_length) {
	uint32_t length = a_length + times * b_length;
	char *result = counted_malloc(length), *end = result + a_length;
	memcpy(result, a, a_length);
	for (; times > 0; times--, end += b_length)
		memcpy(end, b, b_length);
	return packed(result, length);
}

EXPORT(length) int32_t length(const char *text, int32_t length) { return text ? length : -1; }
EXPORT(add) int32_t add(int32_t a, int32_t b) { return a + b; }
EXPORT(add_float) double add_float(double a, float b) { return a + b; }
EXPORT(live) int32_t live_blocks(void) { return live; }
EXPORT(initialized) int32_t is_initialized(void) { return initialized; }
EXPORT(nothing) uint64_t nothing(void) { return 0; }
/* What is not in the memory: behind its end, and longer than it. */
EXPORT(outside) uint64_t outside(void) { return packed((char *)0xFFFFFFF0, 1); }
EXPORT(too_long) uint64_t too_long(void) { return packed((char *)1024, 0xFFFFFFFF); }
EXPORT(spin) void spin(void) { for (volatile int i = 0;; i++) {} }
EXPORT(crash) void crash(void) { __builtin_trap(); }
