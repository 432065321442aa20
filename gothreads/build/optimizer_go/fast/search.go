package fast

// Texts of intrinsics that search memory. $p is where it begins, $n how many bytes there are, $c the byte to look for.
//
// They read whole blocks of WIDTH bytes, at addresses that are multiples of it: a block with one byte of a slice is
// in memory, and what else is in it does not matter: the bits of those bytes are cleared, or lie behind the end.
const (
	// firstBlock makes $a the address of the block with the first byte, $left the number of bytes from there to the end,
	// and $bits those of its bytes from the first on that are $c. $n is not 0.
	firstBlock = `
		local $a i32  local $left i64  local $bits i64  local $skip i64  local $v VECTOR  local $x i64
		local.get $c SPLAT local.set $v
		local.get $p i32.const -WIDTH i32.and local.set $a
		local.get $p i32.const LAST i32.and i64.extend_i32_u local.tee $skip
		local.get $n i64.add local.set $left
		local.get $a LOAD local.get $v EQUAL BITS
		i64.const -1 local.get $skip i64.const SHIFT i64.shl i64.shl i64.and local.set $bits`

	// nextBlock passes over one.
	nextBlock = `
		local.get $a i32.const WIDTH i32.add local.set $a
		local.get $left i64.const WIDTH i64.sub local.set $left`

	// indexByte stores where $c is first, or -1.
	indexByte = `
		local $index i64
		i64.const -1 local.set $index
		block $none
			block $found
				local.get $n i64.eqz br_if $none` + firstBlock + `
				local.get $bits i64.eqz i32.eqz br_if $found
				block $near ;; passes over four blocks behind this one, if none of them has it
					local.get $left i64.const BLOCKS5 i64.lt_s br_if $near
					loop $far
						local.get $a LOAD offset=WIDTH local.get $v EQUAL
						local.get $a LOAD offset=BLOCKS2 local.get $v EQUAL OR
						local.get $a LOAD offset=BLOCKS3 local.get $v EQUAL OR
						local.get $a LOAD offset=BLOCKS4 local.get $v EQUAL OR
						ANY br_if $near
						local.get $a i32.const BLOCKS4 i32.add local.set $a
						local.get $left i64.const BLOCKS4 i64.sub local.set $left
						local.get $left i64.const BLOCKS5 i64.ge_s br_if $far
					end
				end
				loop $next
					local.get $left i64.const WIDTH i64.le_s br_if $none` + nextBlock + `
					local.get $a LOAD local.get $v EQUAL BITS local.tee $bits
					i64.eqz br_if $next
				end
			end
			local.get $bits i64.ctz i64.const SHIFT i64.shr_u local.tee $bits
			local.get $left i64.ge_s br_if $none
			local.get $n local.get $left i64.sub local.get $bits i64.add local.set $index
		end
		local.get $sp local.get $index i64.store offset=RESULT
		i32.const 0 return`

	// count stores how often there is $c.
	count = `
		local $count i64
		block $done
			local.get $n i64.eqz br_if $done` + firstBlock + `
			loop $next
				local.get $left i64.const WIDTH i64.lt_s
				if $last
					local.get $bits i64.const -1 local.get $left i64.const SHIFT i64.shl i64.shl i64.const -1 i64.xor i64.and
					i64.popcnt local.get $count i64.add local.set $count
					br $done
				end
				local.get $bits i64.popcnt local.get $count i64.add local.set $count` + nextBlock + `
				local.get $left i64.eqz br_if $done
				block $near
					local.get $left i64.const BLOCKS4 i64.lt_s br_if $near
					loop $far
						local.get $a LOAD local.get $v EQUAL BITS i64.popcnt local.get $count i64.add
						local.get $a LOAD offset=WIDTH local.get $v EQUAL BITS i64.popcnt i64.add
						local.get $a LOAD offset=BLOCKS2 local.get $v EQUAL BITS i64.popcnt i64.add
						local.get $a LOAD offset=BLOCKS3 local.get $v EQUAL BITS i64.popcnt i64.add
						local.set $count
						local.get $a i32.const BLOCKS4 i32.add local.set $a
						local.get $left i64.const BLOCKS4 i64.sub local.set $left
						local.get $left i64.const BLOCKS4 i64.ge_s br_if $far
					end
				end
				local.get $left i64.eqz br_if $done
				local.get $a LOAD local.get $v EQUAL BITS local.set $bits
				br $next
			end
		end
		local.get $sp local.get $count i64.store offset=RESULT
		i32.const 0 return`

	// countOne counts a text of one byte, $q. Others are counted by Go's code.
	countOne = `
		local $c i32
		local.get $m i64.const 1 i64.eq
		if $one
			local.get $q i32.load8_u local.set $c` + count + `
		end`

	// index stores where the $m bytes at $q are first, or -1. It looks for places with their first byte that have the
	// last one where it should be, and compares what is between.
	//
	// Go's code goes on, from the beginning, for texts of less than two bytes, and of more than 64 when many places have
	// to be compared, as it takes linear time; and when a block might be outside of memory.
	index = `
		local $left i64  local $limit i64  local $a i32  local $last i32  local $v VECTOR  local $w VECTOR  local $x i64
		local $bits i64  local $at i32  local $k i32  local $fails i64
		block $decline
			local.get $m i64.const 2 i64.lt_s br_if $decline
			local.get $n local.get $m i64.sub i64.const 1 i64.add local.tee $left ;; how many places there are
			i64.const 1 i64.lt_s br_if $decline
			local.get $m i32.wrap_i64 i32.const 1 i32.sub local.set $last
			local.get $q i32.load8_u SPLAT local.set $v
			local.get $q local.get $last i32.add i32.load8_u SPLAT local.set $w
			local.get $p local.set $a
			i64.const -1 local.set $limit
			local.get $left i64.const WIDTH i64.lt_s
			if $short ;; a block goes on behind the end: it must not reach another page of memory, which may not be there
				local.get $p i32.const 0xffff i32.and i64.extend_i32_u local.get $m i64.add
				i64.const PAGE i64.gt_s br_if $decline
				i64.const -1 local.get $left i64.const SHIFT i64.shl i64.shl i64.const -1 i64.xor local.set $limit
				i64.const WIDTH local.set $left
			end
			loop $next
				local.get $a LOAD local.get $v EQUAL
				local.get $a local.get $last i32.add LOAD local.get $w EQUAL AND
				BITS local.get $limit i64.and local.tee $bits
				i64.eqz i32.eqz
				if $some
					loop $candidate
						local.get $a local.get $bits i64.ctz i64.const SHIFT i64.shr_u i32.wrap_i64 i32.add local.set $at
						block $different
							local.get $last i32.const 7 i32.ge_u
							if $words
								i32.const 0 local.set $k
								loop $word
									local.get $at local.get $k i32.add i64.load local.get $q local.get $k i32.add i64.load
									i64.ne br_if $different
									local.get $k i32.const 8 i32.add local.tee $k
									i32.const 7 i32.add local.get $last i32.le_u br_if $word
								end
								local.get $at local.get $last i32.add i32.const 7 i32.sub i64.load
								local.get $q local.get $last i32.add i32.const 7 i32.sub i64.load
								i64.ne br_if $different
							else
								local.get $last i32.const 3 i32.ge_u
								if $half
									local.get $at i32.load local.get $q i32.load i32.ne br_if $different
									local.get $at local.get $last i32.add i32.const 3 i32.sub i32.load
									local.get $q local.get $last i32.add i32.const 3 i32.sub i32.load
									i32.ne br_if $different
								else
									local.get $at local.get $last i32.add i32.const 1 i32.sub i32.load8_u
									local.get $q local.get $last i32.add i32.const 1 i32.sub i32.load8_u
									i32.ne br_if $different
								end
							end
							local.get $sp local.get $at local.get $p i32.sub i64.extend_i32_u i64.store offset=RESULT
							i32.const 0 return
						end
						local.get $last i32.const 63 i32.gt_u
						if $long
							local.get $fails i64.const 1 i64.add local.tee $fails
							local.get $at local.get $p i32.sub i64.extend_i32_u i64.const 4 i64.shr_u i64.const 4 i64.add
							i64.gt_u br_if $decline
						end
						local.get $bits local.get $bits i64.const 1 i64.sub i64.and local.tee $bits
						i64.eqz i32.eqz br_if $candidate
					end
				end
				local.get $left i64.const WIDTH i64.sub local.tee $left
				i64.eqz
				if $nowhere
					local.get $sp i64.const -1 i64.store offset=RESULT
					i32.const 0 return
				end
				local.get $a i32.const WIDTH i32.add local.set $a
				local.get $left i64.const WIDTH i64.lt_s
				if $tail ;; the last block has places that were looked at, so that it ends with the last one
					local.get $a i32.const WIDTH i32.sub local.get $left i32.wrap_i64 i32.add local.set $a
					i64.const WIDTH local.set $left
				end
				br $next
			end
		end`
)
