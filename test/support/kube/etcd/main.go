// Command etcd is the server as its own project builds it. A module apart, because Kubernetes asks for older parts of it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
