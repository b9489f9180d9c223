// Argo CD, the parts that its core installation runs here: the application controller and the repository server.
//
// Upstream's program also carries the API server, the command line and the clouds' log-ins, which nothing here
// starts and which are a tenth of everything that a closed network has to compile.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	askpass "github.com/argoproj/argo-cd/v3/cmd/argocd-git-ask-pass/commands"
	reposerver "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	"github.com/argoproj/argo-cd/v3/common"
	"github.com/argoproj/argo-cd/v3/util/log"
)

func main() {
	// Upstream also turns off gRPC's SRV lookups here. Nothing in this build turns them on: no grpclb is linked in.
	klog.SetLogger(log.NewLogrusLogger(log.NewWithCurrentConfig()))
	parts := map[string]func() *cobra.Command{
		common.CommandApplicationController: controller.NewCommand,
		common.CommandGitAskPass:            askpass.NewCommand,
		common.CommandRepoServer:            reposerver.NewCommand,
	}
	name := filepath.Base(os.Args[0])
	if asked := os.Getenv("ARGOCD_BINARY_NAME"); asked != "" { // how Git calls git-ask-pass
		name = asked
	}
	part, known := parts[name]
	if !known {
		fmt.Fprintln(os.Stderr, "this build of Argo CD has no", name)
		os.Exit(2)
	}
	if part().Execute() != nil {
		os.Exit(1)
	}
}
