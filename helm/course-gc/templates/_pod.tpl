{{/* The pod, whatever it is started for. */}}

{{- define "course-gc.quarantineFolder" -}}
{{- dig "quarantine" "folder" "/var/lib/course-gc/quarantine" .Values.config -}}
{{- end -}}

{{- define "course-gc.port" -}}
{{- dig "http" "listen" "0.0.0.0:9090" .Values.config | splitList ":" | last -}}
{{- end -}}

{{/* HTTPS where the program has a certificate. */}}
{{- define "course-gc.scheme" -}}
{{- or (dig "http" "tls" nil .Values.config) (hasKey .Values.secrets "http.tls.certificate") | ternary "HTTPS" "HTTP" -}}
{{- end -}}

{{/* The variable that names the file of a secret field, as `src/config/environment.rs` spells it. */}}
{{- define "course-gc.variable" -}}
COURSE_GC_{{ regexReplaceAll "[^A-Z0-9]" (upper .) "_" }}_FILE
{{- end -}}

{{/* A projected volume of the secrets of a map: (list name map). */}}
{{- define "course-gc.secretVolume" -}}
- name: {{ index . 0 }}
  projected:
    defaultMode: 0444
    sources:
      {{- range $field, $from := index . 1 }}
      - secret:
          name: {{ $from.secret }}
          items:
            - key: {{ $from.key }}
              path: {{ $field }}
      {{- end }}
{{- end -}}

{{/* The restricted profile, and nothing to write to but volumes. */}}
{{- define "course-gc.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* One container: (dict "root" . "name" … "args" … "migrates" bool "data" bool); with data, it sees uploads and copies. */}}
{{- define "course-gc.container" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $override := .migrates | ternary $values.migrations.secrets dict -}}
- name: {{ .name }}
  image: {{ include "course-gc.image" $root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args: {{ toJson .args }}
  env:
    - name: COURSE_GC_CONFIG
      value: /etc/course-gc/course-gc.yaml
    {{- range $field := merge (dict) $override $values.secrets | keys | sortAlpha }}
    - name: {{ include "course-gc.variable" $field }}
      value: /run/secrets/course-gc{{ hasKey $override $field | ternary "-migrations" "" }}/{{ $field }}
    {{- end }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- include "course-gc.securityContext" $root | nindent 4 }}
  volumeMounts:
    - name: config
      mountPath: /etc/course-gc
      readOnly: true
    {{- if $values.secrets }}
    - name: secrets
      mountPath: /run/secrets/course-gc
      readOnly: true
    {{- end }}
    {{- if $override }}
    - name: secrets-migrations
      mountPath: /run/secrets/course-gc-migrations
      readOnly: true
    {{- end }}
    {{- if and .data (or $values.quarantine.claim $values.quarantine.create.enabled) }}
    - name: quarantine
      mountPath: {{ include "course-gc.quarantineFolder" $root }}
      {{- with $values.quarantine.subPath }}
      subPath: {{ . }}
      {{- end }}
    {{- end }}
    {{- range .data | ternary $values.uploads list }}
    - name: uploads-{{ sha256sum .claim | trunc 8 }}
      mountPath: {{ .mountPath }}
      {{- with .subPath }}
      subPath: {{ . }}
      {{- end }}
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What a container that serves has besides. */}}
{{- define "course-gc.probes" -}}
ports:
  - name: http
    containerPort: {{ include "course-gc.port" . }}
startupProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ include "course-gc.scheme" . }}}
  {{- toYaml .Values.probes.startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ include "course-gc.scheme" . }}}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ include "course-gc.scheme" . }}}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
{{- end -}}

{{/* What all containers of a pod share: (dict "root" . "restart" … "grace" seconds "migrates" bool "data" bool). */}}
{{- define "course-gc.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
serviceAccountName: {{ include "course-gc.serviceAccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: {{ .restart }}
terminationGracePeriodSeconds: {{ int64 .grace }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with $values.runAs }}
  {{- if not (kindIs "invalid" .user) }}
  runAsUser: {{ int64 .user }}
  {{- end }}
  {{- if not (kindIs "invalid" .group) }}
  runAsGroup: {{ int64 .group }}
  {{- end }}
  {{- $fsGroup := and (kindIs "invalid" .fsGroup) (not $values.uploads) | ternary .group .fsGroup }}
  {{- if not (kindIs "invalid" $fsGroup) }}
  fsGroup: {{ int64 $fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "course-gc.fullname" $root }}
  {{- with $values.secrets }}
  {{- include "course-gc.secretVolume" (list "secrets" .) | nindent 2 }}
  {{- end }}
  {{- if and .migrates $values.migrations.secrets }}
  {{- include "course-gc.secretVolume" (list "secrets-migrations" $values.migrations.secrets) | nindent 2 }}
  {{- end }}
  {{- $data := .data }}
  {{- with $values.quarantine }}
  {{- if and $data (or .claim .create.enabled) }}
  - name: quarantine
    persistentVolumeClaim:
      claimName: {{ .claim | default (printf "%s-quarantine" (include "course-gc.fullname" $root)) }}
  {{- end }}
  {{- end }}
  {{- $claims := list }}
  {{- range $data | ternary $values.uploads list }}
  {{- $claims = append $claims .claim }}
  {{- end }}
  {{- range uniq $claims }}
  - name: uploads-{{ sha256sum . | trunc 8 }}
    persistentVolumeClaim:
      claimName: {{ . }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if .migrates }}
initContainers:
  {{- include "course-gc.container" (dict "root" $root "name" "migrate" "args" (list "migrate") "migrates" true "data" false) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: (dict "root" . "component" …). */}}
{{- define "course-gc.podMetadata" -}}
{{- $values := .root.Values -}}
labels:
  {{- include "course-gc.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := deepCopy $values.podAnnotations }}
{{- if has .component (list "collector" "exporter") }}
{{- $once := $values.restartOnChange | ternary $values.config (pick $values.config "http" "log") }}
{{- $_ := set $annotations "checksum/config" (toYaml $once | sha256sum) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
