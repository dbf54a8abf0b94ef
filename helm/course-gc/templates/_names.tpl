{{/* Names and labels. */}}

{{- define "course-gc.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a CronJob's name may be no longer, and suffixes follow. */}}
{{- define "course-gc.fullname" -}}
{{- $name := include "course-gc.name" . -}}
{{- $whole := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $whole | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{- define "course-gc.selector" -}}
app.kubernetes.io/name: {{ include "course-gc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The part that answers over HTTP: in mode CronJob, the exporter. */}}
{{- define "course-gc.component" -}}
{{- eq .Values.mode "Deployment" | ternary "collector" "exporter" -}}
{{- end -}}

{{/* Empty where nothing answers. */}}
{{- define "course-gc.isServing" -}}
{{- or (eq .Values.mode "Deployment") .Values.cronJob.exporter.enabled | ternary "yes" "" -}}
{{- end -}}

{{/* The labels of the pods that answer. */}}
{{- define "course-gc.serving" -}}
{{ include "course-gc.selector" . }}
app.kubernetes.io/component: {{ include "course-gc.component" . }}
{{- end -}}

{{- define "course-gc.labels" -}}
{{ include "course-gc.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* name, namespace and labels of an object: (list context suffix). */}}
{{- define "course-gc.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "course-gc.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "course-gc.labels" $root | nindent 2 }}
{{- end -}}

{{- define "course-gc.serviceAccount" -}}
{{- with .Values.serviceAccount -}}
{{- .name | default (.create | ternary (include "course-gc.fullname" $) "default") -}}
{{- end -}}
{{- end -}}

{{- define "course-gc.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}
