// A controller as people write one with controller-runtime: the same loop as plugset's, over a target that has whatever is
// declared. It prints a line when it is ready, and one when so many workspaces as COUNT says have had their first pass.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/go-logr/logr"
)

type reconciler struct {
	client.Client
	expected int
	mutex    sync.Mutex
	checked  map[types.NamespacedName]bool
}

// target stands in for a machine on which everything that is declared is installed.
func look(_ context.Context, workspace *Workspace) map[string]string {
	installed := make(map[string]string, len(workspace.Spec.Plugins))
	for _, plugin := range workspace.Spec.Plugins {
		installed[plugin.Name] = plugin.Source
	}
	return installed
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var workspace Workspace
	if err := r.Get(ctx, request.NamespacedName, &workspace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := workspace.DeepCopyObject().(*Workspace)
	installed := look(ctx, &workspace)
	rows := make([]PluginStatus, 0, len(workspace.Spec.Plugins))
	for i, plugin := range workspace.Spec.Plugins {
		row := PluginStatus{Name: plugin.Name, State: "Installed", Reason: "Installed", Managed: true, Source: plugin.Source}
		if installed[plugin.Name] != plugin.Source {
			row.State = "Pending"
		}
		row.Since = metav1.Now().Rfc3339Copy()
		if i < len(before.Status.Plugins) && before.Status.Plugins[i].Source == row.Source {
			row.Since = before.Status.Plugins[i].Since
		}
		rows = append(rows, row)
	}
	status := &workspace.Status
	status.Plugins = rows
	status.Summary = fmt.Sprintf("%d/%d", len(rows), len(rows))
	status.ObservedGeneration = workspace.Generation
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: "Converged", Message: status.Summary,
		ObservedGeneration: workspace.Generation,
	})
	if !reflect.DeepEqual(before.Status, workspace.Status) {
		if err := r.Status().Patch(ctx, &workspace, client.MergeFrom(before)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return ctrl.Result{}, err
		}
	}
	r.count(request.NamespacedName)
	return ctrl.Result{}, nil
}

func (r *reconciler) count(key types.NamespacedName) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.checked == nil || r.checked[key] {
		return
	}
	r.checked[key] = true
	if len(r.checked) == r.expected {
		r.checked = nil
		fmt.Println("checked")
	}
}

func run() error {
	expected, err := strconv.Atoi(os.Getenv("COUNT"))
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	// The API server bounds both sides; a bound in the client would only be another figure to choose.
	config.QPS = -1
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	addToScheme(scheme)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		Cache:   cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return err
	}
	workspaces := &reconciler{Client: manager.GetClient(), expected: expected, checked: map[types.NamespacedName]bool{}}
	if err := ctrl.NewControllerManagedBy(manager).
		For(&Workspace{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 16}).
		Complete(workspaces); err != nil {
		return err
	}
	fmt.Println("started")
	return manager.Start(ctrl.SetupSignalHandler())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
