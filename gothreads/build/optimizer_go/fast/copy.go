package fast

import "fmt"

// Texts of intrinsics that copy and clear memory. For what engines have instructions for, they call a function of their
// own, which takes longer than a small copy does. Everything is read before anything is written, as the two places may
// overlap; and pointers, whose addresses are multiples of 8, are written at once, as the collector reads them meanwhile.
var (
	// memmove copies $size bytes from $q to $p if they are few.
	memmove       = upTo16 + moveFew + " end"
	memmoveBlocks = upTo64 + moveFew + moveBlocks + " end"

	// memclr clears $size bytes at $p if they are few.
	memclr       = upTo16 + clearFew + " end"
	memclrBlocks = upTo64 + clearFew + clearBlocks + " end"

	upTo16 = `block $many local.get $size i32.const 16 i32.gt_u br_if $many`
	upTo64 = `block $many local.get $size i32.const 64 i32.gt_u br_if $many`

	// moveFew copies up to 16 bytes.
	moveFew = `
		local $x i64  local $y i64  local $i i32  local $j i32  local $k i32
		local.get $size i32.const 16 i32.le_u
		if $few
			local.get $size i32.const 8 i32.ge_u
			if $words
				` + moveEnds("i64", 8, "$x", "$y") + `
			end
			local.get $size i32.const 4 i32.ge_u
			if $halves
				` + moveEnds("i32", 4, "$i", "$j") + `
			end
			local.get $size
			if $bytes ;; the first, the one in the middle, and the last
				local.get $q i32.load8_u local.set $i
				local.get $q local.get $size i32.const 1 i32.shr_u i32.add i32.load8_u local.set $j
				local.get $q local.get $size i32.add i32.const 1 i32.sub i32.load8_u local.set $k
				local.get $p local.get $i i32.store8
				local.get $p local.get $size i32.const 1 i32.shr_u i32.add local.get $j i32.store8
				local.get $p local.get $size i32.add i32.const 1 i32.sub local.get $k i32.store8
			end
			i32.const 0 return
		end`

	// moveBlocks copies 17 to 64 bytes.
	moveBlocks = `
		local $u v128  local $v v128  local $w v128  local $z v128
		local.get $size i32.const 32 i32.le_u
		if $two
			` + moveEnds("v128", 16, "$u", "$v") + `
		end
		local.get $q v128.load local.set $u
		local.get $q v128.load offset=16 local.set $v
		local.get $q local.get $size i32.add i32.const 32 i32.sub v128.load local.set $w
		local.get $q local.get $size i32.add i32.const 16 i32.sub v128.load local.set $z
		local.get $p local.get $u v128.store
		local.get $p local.get $v v128.store offset=16
		local.get $p local.get $size i32.add i32.const 32 i32.sub local.get $w v128.store
		local.get $p local.get $size i32.add i32.const 16 i32.sub local.get $z v128.store
		i32.const 0 return`

	// clearFew clears up to 16 bytes.
	clearFew = `
		local.get $size i32.const 16 i32.le_u
		if $few
			local.get $size i32.const 8 i32.ge_u
			if $words
				local.get $p i64.const 0 i64.store
				local.get $p local.get $size i32.add i32.const 8 i32.sub i64.const 0 i64.store
				i32.const 0 return
			end
			local.get $size i32.const 4 i32.ge_u
			if $halves
				local.get $p i32.const 0 i32.store
				local.get $p local.get $size i32.add i32.const 4 i32.sub i32.const 0 i32.store
				i32.const 0 return
			end
			local.get $size
			if $bytes
				local.get $p i32.const 0 i32.store8
				local.get $p local.get $size i32.const 1 i32.shr_u i32.add i32.const 0 i32.store8
				local.get $p local.get $size i32.add i32.const 1 i32.sub i32.const 0 i32.store8
			end
			i32.const 0 return
		end`

	// clearBlocks clears 17 to 64 bytes.
	clearBlocks = `
		local $v v128
		i32.const 0 i8x16.splat local.set $v
		local.get $p local.get $v v128.store
		local.get $p local.get $size i32.add i32.const 16 i32.sub local.get $v v128.store
		local.get $size i32.const 32 i32.gt_u
		if $more
			local.get $p local.get $v v128.store offset=16
			local.get $p local.get $size i32.add i32.const 32 i32.sub local.get $v v128.store
		end
		i32.const 0 return`
)

// moveEnds copies $size bytes that have one or two values of a type of so many bytes: the first one and the last one,
// which may overlap. first, last: the locals for them.
func moveEnds(of string, bytes int, first, last string) string {
	end := fmt.Sprintf("local.get $size i32.add i32.const %d i32.sub", bytes)
	return fmt.Sprintf(`
		local.get $q %[1]s.load local.set %[2]s
		local.get $q %[4]s %[1]s.load local.set %[3]s
		local.get $p local.get %[2]s %[1]s.store
		local.get $p %[4]s local.get %[3]s %[1]s.store
		i32.const 0 return`, of, first, last, end)
}
