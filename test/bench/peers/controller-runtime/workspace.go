package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "plugset.dev", Version: "v1alpha1"}

// Workspace has of the custom resource what a pass reads and writes.
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitzero"`
}

type Spec struct {
	Runtime string   `json:"runtime"`
	Target  Target   `json:"target"`
	Plugins []Plugin `json:"plugins,omitempty"`
	Suspend bool     `json:"suspend,omitempty"`
}

type Target struct {
	Directory *Directory `json:"directory,omitempty"`
}

type Directory struct {
	Path string `json:"path"`
}

type Plugin struct {
	Name   string `json:"name"`
	Source string `json:"source"`
}

type Status struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	Summary            string             `json:"summary,omitempty"`
	Plugins            []PluginStatus     `json:"plugins,omitempty"`
}

type PluginStatus struct {
	Name    string      `json:"name"`
	State   string      `json:"state"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Managed bool        `json:"managed"`
	Source  string      `json:"source,omitempty"`
	Since   metav1.Time `json:"since"`
}

func (in *Workspace) DeepCopyObject() runtime.Object {
	out := &Workspace{TypeMeta: in.TypeMeta, Spec: in.Spec, Status: in.Status}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	if in.Spec.Target.Directory != nil {
		directory := *in.Spec.Target.Directory
		out.Spec.Target.Directory = &directory
	}
	out.Spec.Plugins = append([]Plugin(nil), in.Spec.Plugins...)
	out.Status.Plugins = append([]PluginStatus(nil), in.Status.Plugins...)
	out.Status.Conditions = append([]metav1.Condition(nil), in.Status.Conditions...)
	return out
}

type WorkspaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workspace `json:"items"`
}

func (in *WorkspaceList) DeepCopyObject() runtime.Object {
	out := &WorkspaceList{TypeMeta: in.TypeMeta, Items: make([]Workspace, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items[i] = *in.Items[i].DeepCopyObject().(*Workspace)
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &Workspace{}, &WorkspaceList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}
