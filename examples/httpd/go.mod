module httpd

go 1.25
