{{/* Directories of nodes by platform. */}}
{{- define "ambit.cniBinDir" -}}
{{- $paths := dict "k3s" "/var/lib/rancher/k3s/data/cni" "k3d" "/bin" "microk8s" "/var/snap/microk8s/current/opt/cni/bin" "gke" "/home/kubernetes/bin" -}}
{{- .Values.cni.binDir | default (index $paths .Values.platform) | default "/opt/cni/bin" -}}
{{- end -}}
{{- define "ambit.cniConfDir" -}}
{{- $paths := dict "k3s" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "k3d" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "microk8s" "/var/snap/microk8s/current/args/cni-network" -}}
{{- .Values.cni.confDir | default (index $paths .Values.platform) | default "/etc/cni/net.d" -}}
{{- end -}}
{{- define "ambit.netnsDir" -}}
{{- $paths := dict "minikube" "/var/run/docker/netns" -}}
{{- .Values.cni.netnsDir | default (index $paths .Values.platform) | default "/run/netns" -}}
{{- end -}}

{{- define "ambit.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What every object carries. */}}
{{- define "ambit.labels" -}}
app.kubernetes.io/name: ambit
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Flags that every process of the mesh is told alike. */}}
{{- define "ambit.meshArgs" -}}
- {{ printf "--trust-domain=%s" .Values.mesh.trustDomain | quote }}
- {{ printf "--cluster-id=%s" .Values.mesh.clusterId | quote }}
- {{ printf "--cluster-domain=%s" .Values.mesh.clusterDomain | quote }}
- {{ printf "--root-namespace=%s" .Values.mesh.rootNamespace | quote }}
{{- with .Values.mesh.network }}
- {{ printf "--network=%s" . | quote }}
{{- end }}
{{- with .Values.mesh.trustDomainAliases }}
- {{ printf "--trust-domain-aliases=%s" (join "," .) | quote }}
{{- end }}
{{- with .Values.otlp.endpoint }}
- {{ printf "--otlp-endpoint=%s" . | quote }}
- --otlp-interval={{ int $.Values.otlp.intervalSeconds }}
{{- end }}
{{- if and .Values.otlp.endpoint .Values.otlp.secretName }}
- --otlp-headers-file=/var/run/secrets/otlp/headers
{{- end }}
{{- end -}}
