package narrator

import (
	corev1 "k8s.io/api/core/v1"
)

// nodeCameOrWent: a node was registered or removed by anybody, or people were told to keep pods off it.
func nodeCameOrWent(s scene) ([]remark, error) {
	node, name := s.itself("Node"), s.Subject.Key.Name
	switch {
	case s.begins():
		return []remark{nodes.normal(node, "RegisteredNode", "Node %s event: Registered Node %s in Controller", name, name)}, nil
	case s.IsDeletion():
		return []remark{nodes.normal(node, "RemovingNode", "Node %s event: Removing Node %s from Controller", name, name)}, nil
	}
	was, known, err := s.before()
	if err != nil || !known || was.Spec.Unschedulable == s.object.Spec.Unschedulable {
		return nil, err
	}
	if s.object.Spec.Unschedulable {
		return []remark{turnedTo(s, kubelet(name), "NodeNotSchedulable")}, nil
	}
	return []remark{turnedTo(s, kubelet(name), "NodeSchedulable")}, nil
}

// nodeStates are the reasons for a node's conditions turning true and false, as kubelets give them.
var nodeStates = []struct{ condition, isTrue, isFalse string }{
	{string(corev1.NodeMemoryPressure), "NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
	{string(corev1.NodeDiskPressure), "NodeHasDiskPressure", "NodeHasNoDiskPressure"},
	{string(corev1.NodePIDPressure), "NodeHasInsufficientPID", "NodeHasSufficientPID"},
	{string(corev1.NodeReady), "NodeReady", "NodeNotReady"},
}

// nodeReported: a node's agent says how the node is, at first or otherwise than before.
func nodeReported(s scene) ([]remark, error) {
	before, known, err := s.before()
	if err != nil || (!known && !s.begins()) {
		return nil, err
	}
	var out []remark
	for _, n := range nodeStates {
		is := s.object.condition(n.condition).Status
		if is == before.condition(n.condition).Status {
			continue
		}
		switch is {
		case string(corev1.ConditionTrue):
			out = append(out, turnedTo(s, kubelet(s.Subject.Key.Name), n.isTrue))
		case string(corev1.ConditionFalse):
			out = append(out, turnedTo(s, kubelet(s.Subject.Key.Name), n.isFalse))
		}
	}
	return out, nil
}

// nodeSilent: the node controller has not heard of a node that was ready.
func nodeSilent(s scene) ([]remark, error) {
	before, known, err := s.before()
	if err != nil || !known {
		return nil, err
	}
	ready := string(corev1.NodeReady)
	if before.condition(ready).Status != string(corev1.ConditionTrue) || s.object.condition(ready).Status == string(corev1.ConditionTrue) {
		return nil, nil
	}
	return []remark{turnedTo(s, nodes, "NodeNotReady")}, nil
}

func turnedTo(s scene, by voice, state string) remark {
	return by.normal(s.itself("Node"), state, "Node %s status is now: %s", s.Subject.Key.Name, state)
}
