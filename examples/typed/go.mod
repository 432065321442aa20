module markdown

go 1.25

require github.com/yuin/goldmark v1.5.4
