module hooks

go 1.25
