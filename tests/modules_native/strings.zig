//! The same convention without WASI, and with a `free` that wants the length.

const std = @import("std");
const allocator = std.heap.wasm_allocator;
var live: u32 = 0; // bytes that are allocated

export fn malloc(size: u32) ?[*]u8 {
    const block = allocator.alloc(u8, size) catch return null;
    live += size;
    return block.ptr;
}

export fn free(block: [*]u8, size: u32) void {
    live -= size;
    allocator.free(block[0..size]);
}

export fn live_bytes() u32 {
    return live;
}

export fn reverse(text: [*]const u8, length: u32) u64 {
    const result = malloc(length) orelse return 0;
    for (0..length) |i| result[i] = text[length - 1 - i];
    return @as(u64, @intFromPtr(result)) << 32 | length;
}

var calls: u32 = 0;

export fn count() u32 {
    calls += 1;
    return calls;
}
