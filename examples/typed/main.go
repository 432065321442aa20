// Markdown for Python: goldmark, which was not written for it, behind three functions.
package main

import (
	"bytes"
	"context"
	"iter"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

func main() { select {} }

// Options say what is Markdown, beyond CommonMark.
type Options struct {
	// GitHub adds tables, strikethrough, task lists and bare links.
	GitHub bool `json:"github"`
}

// Page is what a text contains.
type Page struct {
	HTML     string `json:"html"`
	Headings []Heading
	Links    []Link
	// Words has the number of words of each paragraph.
	Words []int32
}

// Heading is a line of the table of contents.
type Heading struct {
	Level int
	Text  string
	// ID is the anchor: page.html#id.
	ID string `json:"id"`
}

// Link leads somewhere.
type Link struct{ Text, To string }

func (o Options) markdown() goldmark.Markdown {
	options := []goldmark.Option{goldmark.WithParserOptions(parser.WithAutoHeadingID())}
	if o.GitHub {
		options = append(options, goldmark.WithExtensions(extension.GFM))
	}
	return goldmark.New(options...)
}

// HTML returns a text as HTML.
//
//gothreads:export to_html
func HTML(source string, o Options) (string, error) {
	var out bytes.Buffer
	err := o.markdown().Convert([]byte(source), &out)
	return out.String(), err
}

// Read returns what a text contains.
//
//gothreads:export
func Read(source string, o Options) (Page, error) {
	var out bytes.Buffer
	markdown, data := o.markdown(), []byte(source)
	page, document := Page{}, markdown.Parser().Parse(text.NewReader(data))
	err := ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			id, _ := n.AttributeString("id")
			name, _ := id.([]byte)
			page.Headings = append(page.Headings, Heading{n.Level, string(n.Text(data)), string(name)})
		case *ast.Link:
			page.Links = append(page.Links, Link{string(n.Text(data)), string(n.Destination)})
		case *ast.AutoLink:
			page.Links = append(page.Links, Link{string(n.Label(data)), string(n.URL(data))})
		case *ast.Paragraph:
			page.Words = append(page.Words, int32(words(n, data)))
		}
		return ast.WalkContinue, nil
	})
	if err == nil {
		err = markdown.Renderer().Render(&out, data, document)
	}
	page.HTML = out.String()
	return page, err
}

// ReadAll reads many texts, and yields their pages in order. It stops when the context ends.
//
//gothreads:export
func ReadAll(ctx context.Context, sources []string, o Options) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		for _, source := range sources {
			page, err := Read(source, o)
			if ctx.Err() != nil || !yield(page, err) {
				return
			}
		}
	}
}

func words(n ast.Node, source []byte) int {
	count := 0
	for at := range n.Lines().Len() {
		line := n.Lines().At(at)
		count += len(bytes.Fields(line.Value(source)))
	}
	return count
}
