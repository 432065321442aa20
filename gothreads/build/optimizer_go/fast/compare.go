package fast

// Texts of intrinsics that compare memory, at $p and $q.
//
// Up to 8 bytes are compared as one word each, of which the bytes behind the end are shifted out: so it does not matter
// what they are, and there is no branch that depends on the number of bytes. Such a word must not reach another page of
// memory, which may not be there.
const (
	// shortWord leads to $edge if a word at one of the places may reach another page.
	shortWord = `
		local.get $p i32.const 0xffff i32.and i32.const 0xfff8 i32.gt_u br_if $edge
		local.get $q i32.const 0xffff i32.and i32.const 0xfff8 i32.gt_u br_if $edge`

	// passEqual passes over four blocks at a time that are equal.
	passEqual = `
		block $near
			local.get $n i64.const BLOCKS4 i64.le_s br_if $near
			loop $far
				local.get $p LOAD local.get $q LOAD XOR
				local.get $p LOAD offset=WIDTH local.get $q LOAD offset=WIDTH XOR OR
				local.get $p LOAD offset=BLOCKS2 local.get $q LOAD offset=BLOCKS2 XOR OR
				local.get $p LOAD offset=BLOCKS3 local.get $q LOAD offset=BLOCKS3 XOR OR
				ANY br_if $near
				local.get $p i32.const BLOCKS4 i32.add local.set $p
				local.get $q i32.const BLOCKS4 i32.add local.set $q
				local.get $n i64.const BLOCKS4 i64.sub local.set $n
				local.get $n i64.const BLOCKS4 i64.gt_s br_if $far
			end
		end`

	// lastWords makes $x and $y the words that end where the memory does.
	lastWords = `
		local.get $p local.get $n i32.wrap_i64 i32.add i32.const 8 i32.sub i64.load local.set $x
		local.get $q local.get $n i32.wrap_i64 i32.add i32.const 8 i32.sub i64.load local.set $y`

	// differ makes $x and $y the words of $n bytes that differ, or leads to $same. $n is not 0.
	differ = `
		local $x i64  local $y i64
		block $differ
			local.get $n i64.const 8 i64.le_u
			if $short
				block $edge` + shortWord + `
					local.get $p i64.load local.tee $x local.get $q i64.load local.tee $y i64.xor
					i64.const 64 local.get $n i64.const 3 i64.shl i64.sub i64.shl i64.eqz br_if $same
					br $differ
				end
				loop $byte
					local.get $p i64.load8_u local.tee $x local.get $q i64.load8_u local.tee $y i64.ne br_if $differ
					local.get $p i32.const 1 i32.add local.set $p
					local.get $q i32.const 1 i32.add local.set $q
					local.get $n i64.const 1 i64.sub local.tee $n i64.eqz i32.eqz br_if $byte
				end
				br $same
			end` + passEqual + `
			block $last
				loop $word
					local.get $n i64.const 8 i64.le_s br_if $last
					local.get $p i64.load local.tee $x local.get $q i64.load local.tee $y i64.ne br_if $differ
					local.get $p i32.const 8 i32.add local.set $p
					local.get $q i32.const 8 i32.add local.set $q
					local.get $n i64.const 8 i64.sub local.set $n
					br $word
				end
			end` + lastWords + `
			local.get $x local.get $y i64.eq br_if $same
		end`

	// closureSize makes $n the number of bytes in the function's closure, to which CTXT points.
	closureSize = `
		local $n i64
		global.get 1 i32.wrap_i64 i64.load offset=8 local.set $n`

	// memequal stores whether $n bytes are equal.
	memequal = `
		block $same
			local.get $p local.get $q i32.eq br_if $same
			local.get $n i64.eqz br_if $same` + differ + `
			local.get $sp i32.const 0 i32.store8 offset=RESULT
			i32.const 0 return
		end
		local.get $sp i32.const 1 i32.store8 offset=RESULT
		i32.const 0 return`

	// compare stores -1, 0 or 1: how $pn bytes are ordered relative to $qn bytes.
	compare = `
		local $n i64
		block $same
			local.get $pn local.get $qn local.get $pn local.get $qn i64.lt_u select local.tee $n
			i64.eqz br_if $same
			local.get $p local.get $q i32.eq br_if $same` + differ + `
			;; The first byte that differs is the lowest.
			local.get $x local.get $y i64.xor i64.ctz i64.const 56 i64.and local.set $n
			local.get $x local.get $n i64.shr_u i64.const 255 i64.and local.set $pn
			local.get $y local.get $n i64.shr_u i64.const 255 i64.and local.set $qn
		end
		local.get $sp
		local.get $pn local.get $qn i64.gt_u i64.extend_i32_u local.get $pn local.get $qn i64.lt_u i64.extend_i32_u i64.sub
		i64.store offset=RESULT
		i32.const 0 return`
)
