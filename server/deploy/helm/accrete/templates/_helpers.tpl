{{- define "accrete.name" -}}
{{- if contains "accrete" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-accrete" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of everything. Takes (list . component); "" for what belongs to no one component. */}}
{{- define "accrete.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "accrete.selector" . }}
{{- end -}}

{{- define "accrete.selector" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
app.kubernetes.io/name: accrete
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with $component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Takes (list . overrides). */}}
{{- define "accrete.image" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
{{- $repository := $own.repository | default $root.Values.image.repository -}}
{{- if $own.digest -}}
{{ $repository }}@{{ $own.digest }}
{{- else if $own.tag -}}
{{ $repository }}:{{ $own.tag }}
{{- else if and $root.Values.image.digest (not $own.repository) -}}
{{ $repository }}@{{ $root.Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "accrete.claim" -}}
{{- .Values.versions.existingClaim | default (printf "%s-versions" (include "accrete.name" .)) -}}
{{- end -}}

{{- define "accrete.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "accrete.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What a pod of each kind has alike. Takes (list . values-of-the-component). */}}
{{- define "accrete.pod" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
automountServiceAccountToken: false
# Its variables (ACCRETE_...) would look like settings.
enableServiceLinks: false
{{- with $root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "accrete.podSecurity" $root | nindent 2 }}
# The folders of the volume are made by the user who writes there; made for a mount, they would be root's.
initContainers:
  - name: folders
    image: {{ include "accrete.image" (list $root ($own.image | default dict)) | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: [mkdir, -p, /shared/versions, /shared/backbones]
    securityContext: {{- include "accrete.containerSecurity" $root | nindent 6 }}
    resources:
      requests: {cpu: 10m, memory: 16Mi}
    volumeMounts:
      - {name: versions, mountPath: /shared}
{{- end -}}

{{/* Takes (list . extra). */}}
{{- define "accrete.env" -}}
{{- $root := index . 0 -}}
- name: ACCRETE_CONFIG
  value: /etc/accrete/accrete.toml
- name: ACCRETE_STORE__URL
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.store.existingSecret }}
      key: {{ $root.Values.store.key }}
{{- with index . 1 }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "accrete.envFrom" -}}
{{- with .Values.versions.bucket.existingSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end -}}

{{/*
Takes (list . readOnly). A data directory is a pod's own: it has locks, addresses and notes of what is live. Versions and
backbones alone are shared; of those in a bucket, they are a pod's own cache, which it writes.
*/}}
{{- define "accrete.mounts" -}}
{{- $root := index . 0 -}}
{{- $readOnly := and (index . 1) (not $root.Values.versions.bucket.url) -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/accrete/accrete.toml, subPath: accrete.toml, readOnly: true}
- {name: config, mountPath: /data/preset, subPath: preset, readOnly: true}
- {name: versions, mountPath: /data/versions, subPath: versions, readOnly: {{ $readOnly }}}
- {name: versions, mountPath: /data/backbones, subPath: backbones, readOnly: {{ $readOnly }}}
{{- if $root.Values.access.tls.existingSecret }}
- {name: tls, mountPath: /etc/accrete/tls, readOnly: true}
{{- end }}
{{- if $root.Values.access.tokens.existingSecret }}
- {name: tokens, mountPath: /etc/accrete/tokens, readOnly: true}
{{- end }}
{{- end -}}

{{/* Takes (list . size-of-data). */}}
{{- define "accrete.volumes" -}}
{{- $root := index . 0 -}}
- name: data
  emptyDir: {sizeLimit: {{ index . 1 }}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: config
  configMap:
    name: {{ include "accrete.name" $root }}
- name: versions
  {{- if $root.Values.versions.bucket.url }}
  emptyDir: {sizeLimit: {{ mul 2 (int64 $root.Values.versions.bucket.cacheBytes) | quote }}}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ include "accrete.claim" $root }}
  {{- end }}
{{- with $root.Values.access.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $root.Values.access.tokens.existingSecret }}
- name: tokens
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The container of a server: of the Deployment's, and of KServe's. Takes (list . name port-name). */}}
{{- define "accrete.server" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
- name: {{ index . 1 }}
  image: {{ include "accrete.image" (list $root dict) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args: [serve]
  env: {{- include "accrete.env" (list $root $values.servers.env) | nindent 4 }}
  {{- include "accrete.envFrom" $root | nindent 2 }}
  ports:
    - {name: {{ index . 2 }}, containerPort: 50051, protocol: TCP}
    - {name: metrics, containerPort: 9464, protocol: TCP}
  {{- if $values.access.tls.existingSecret }}
  # Kubernetes' probes of gRPC do not encrypt. The port is listened at once a version is loaded.
  {{- $listens := dict "tcpSocket" (dict "port" 50051) }}
  # A start takes as long as the version takes to come; one that cannot be ends by itself. Hence a day.
  startupProbe: {{- merge (dict "periodSeconds" 2 "failureThreshold" 43200) $listens | toYaml | nindent 4 }}
  readinessProbe: {{- merge (dict "periodSeconds" 5 "timeoutSeconds" 5) $listens | toYaml | nindent 4 }}
  livenessProbe: {{- merge (dict "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6) $listens | toYaml | nindent 4 }}
  {{- else }}
  # A start takes as long as the version takes to come; one that cannot be ends by itself. Hence a day.
  startupProbe:
    grpc: {port: 50051}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 43200
  readinessProbe:
    grpc: {port: 50051}
    periodSeconds: 5
    timeoutSeconds: 5
  # A service of its own, which stays SERVING while a server drains: it is alive, and must not be restarted for it.
  livenessProbe:
    grpc: {port: 50051, service: liveness}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  {{- end }}
  lifecycle:
    preStop:
      sleep:
        seconds: {{ $values.servers.preStopSeconds }}
  resources: {{- toYaml $values.servers.resources | nindent 4 }}
  securityContext: {{- include "accrete.containerSecurity" $root | nindent 4 }}
  volumeMounts: {{- include "accrete.mounts" (list $root true) | nindent 4 }}
{{- end -}}

{{/*
accrete.toml: what the chart sees to, and `settings`. JSON's numbers, texts and lists are TOML's as well.
*/}}
{{- define "accrete.settings" -}}
{{- $server := dict "host" "0.0.0.0" "port" 50051 "metrics_host" "0.0.0.0" "metrics_port" 9464 -}}
{{- $_ := set $server "node" (printf "%s/%s" .Release.Namespace (include "accrete.name" .)) -}}
{{- $access := dict "insecure" .Values.access.insecure -}}
{{- if .Values.access.tls.existingSecret -}}
{{- $access = dict "certificate" "/etc/accrete/tls/tls.crt" "private_key" "/etc/accrete/tls/tls.key" -}}
{{- if .Values.access.tls.clientCertificates -}}
{{- $_ := set $access "client_ca" "/etc/accrete/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- if .Values.access.tokens.existingSecret -}}
{{- $_ := set $access "tokens" (printf "/etc/accrete/tokens/%s" .Values.access.tokens.key) -}}
{{- end -}}
{{- $ours := dict "server" $server "access" $access "learner" (dict "metrics_port" 9465) -}}
{{- $_ := set $ours "page" (dict "enabled" false) -}}
{{- with .Values.versions.bucket -}}
{{- if .url -}}
{{- $_ := set $ours "artifacts" (dict "url" .url "cache_bytes" .cacheBytes) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $ours "log" (dict "format" "json") -}}
data_dir = "/data"
preset = {{ toJson .Values.preset }}
{{- range $section, $fields := mergeOverwrite $ours (deepCopy .Values.settings) }}

[{{ $section }}]
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
{{ $field }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether what the schema cannot compare fits together. */}}
{{- define "accrete.check" -}}
{{- with .Values.servers.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "servers.autoscaling.minReplicas = %v: at most maxReplicas (%v) is allowed" .minReplicas .maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
