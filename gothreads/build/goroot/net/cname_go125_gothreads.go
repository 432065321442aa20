//go:build wasip1 && !go1.26

package net

import "context"

func cgoLookupCNAME(ctx context.Context, name string) (cname string, err error, completed bool) {
	cname, err = lookUpCNAME(ctx, name)
	return cname, err, true
}
