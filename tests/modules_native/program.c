/* A wasi-threads program: its threads print, and main waits for them. */

#include "wasi_threads.h"

static atomic_int running = 8, counter, never;

static void work(int32_t number) {
	char line[] = {'t', 'h', 'r', 'e', 'a', 'd', ' ', '0' + number, '\n'};
	for (int i = 0; i < 1000; i++)
		atomic_fetch_add(&counter, 1);
	print(line, sizeof line);
	atomic_fetch_sub(&running, 1);
	wake(&running);
}

static void park(int32_t none) {
	(void)none;
	wait(&never, 0);
}

EXPORT(_start) void _start(void) {
	start(park, 0); /* ends when main returns */
	for (int i = 0; i < 8; i++)
		if (start(work, i) < 0)
			proc_exit(3);
	for (int left; (left = atomic_load(&running)) != 0;)
		wait(&running, left);
	if (atomic_load(&counter) != 8000)
		proc_exit(4);
	print("all have finished\n", 18);
}
