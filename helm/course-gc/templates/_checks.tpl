{{/* What a schema cannot see: values that contradict each other. Each message says what to do. */}}

{{/* Whether a field has its value from a Secret, or from a variable of the operator's own: (list context field). Empty if not. */}}
{{- define "course-gc.isGiven" -}}
{{- $values := (index . 0).Values -}}
{{- $field := index . 1 -}}
{{- if hasKey $values.secrets $field -}}yes{{- end -}}
{{- $file := include "course-gc.variable" $field -}}
{{- range $values.extraEnv -}}
{{- if has .name (list $file (trimSuffix "_FILE" $file)) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- define "course-gc.checks" -}}
{{- $config := .Values.config -}}
{{- $isDeployment := eq .Values.mode "Deployment" -}}

{{- if not .Values.image.repository -}}
{{- fail "image.repository: no image is published, so name the one that you have built" -}}
{{- end -}}

{{- /* Secrets */ -}}
{{- if regexMatch "://[^/\\s@:\"]*:[^/\\s@\"]+@" (toJson $config) -}}
{{- fail "config holds a URL with a password: put the whole URL into a Secret, and name it in `secrets`" -}}
{{- end -}}
{{- range $field, $_ := merge (dict) .Values.secrets .Values.migrations.secrets -}}
{{- $path := splitList "." $field -}}
{{- if has (first $path) (list "liveness" "stores") -}}
{{- if not (hasKey (index $config (first $path)) (index $path 1)) -}}
{{- fail (printf "secrets: `%s` is no field, since config.%s has no `%s`" $field (first $path) (index $path 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $source := $config.liveness -}}
{{- if not (or $source.url $source.url_file (include "course-gc.isGiven" (list $ (printf "liveness.%s.url" $name)))) -}}
{{- fail (printf "config.liveness.%s has no URL: name its Secret, as in `secrets: {liveness.%s.url: {secret: …, key: …}}`" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $store := $config.stores -}}
{{- if and (ne $store.kind "files") (not (or $store.url $store.url_file (include "course-gc.isGiven" (list $ (printf "stores.%s.url" $name))))) -}}
{{- fail (printf "config.stores.%s has no URL: give `url`, or name its Secret, as in `secrets: {stores.%s.url: {secret: …, key: …}}`" $name $name) -}}
{{- end -}}
{{- end -}}

{{- /* Helm sorts maps, and the ledger lies in the first liveness source's database. */ -}}
{{- $ledger := $config.ledger | default dict -}}
{{- if and (gt (len $config.liveness) 1) (not (or $ledger.url $ledger.url_file (include "course-gc.isGiven" (list $ "ledger.url")))) -}}
{{- fail "config.liveness has several sources: say where the ledger lies, by `secrets: {ledger.url: …}`" -}}
{{- end -}}

{{- /* Volumes */ -}}
{{- $mounts := list -}}
{{- range concat .Values.uploads .Values.extraVolumeMounts -}}
{{- $mounts = append $mounts .mountPath -}}
{{- end -}}
{{- range $one := $mounts -}}
{{- range $other := $mounts -}}
{{- if hasPrefix (printf "%s/" $one) $other -}}
{{- fail (printf "%s is mounted inside %s, and what contains a mount is never deleted: mount them side by side" $other $one) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $store := $config.stores -}}
{{- if eq $store.kind "files" -}}
{{- $root := required (printf "config.stores.%s needs a root" $name) $store.root -}}
{{- $found := false -}}
{{- range $mounts -}}
{{- if or (eq . $root) (hasPrefix (printf "%s/" .) $root) -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "config.stores.%s: no volume is mounted at %s; name its claim in `uploads`" $name $root) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Copies */ -}}
{{- $claim := or .Values.quarantine.claim .Values.quarantine.create.enabled -}}
{{- $bucket := dig "quarantine" "bucket" nil $config -}}
{{- $folder := include "course-gc.quarantineFolder" . -}}
{{- $mounted := false -}}
{{- range $mounts -}}
{{- if or (eq . $folder) (hasPrefix (printf "%s/" .) $folder) -}}{{- $mounted = true -}}{{- end -}}
{{- end -}}
{{- if and .Values.quarantine.claim .Values.quarantine.create.enabled -}}
{{- fail "quarantine: either an existing `claim`, or one that the chart makes (`create`)" -}}
{{- end -}}
{{- if and $claim $mounted -}}
{{- fail (printf "quarantine: %s is mounted twice" $folder) -}}
{{- end -}}
{{- range $name, $store := $config.stores -}}
{{- if not (or (has $store.kind (list "files" "objects")) (eq (toString $store.quarantine) "false") $claim $bucket $mounted) -}}
{{- fail (printf "quarantine: the copies of what is deleted from config.stores.%s need a place that outlives the pod: set quarantine.claim, quarantine.create or config.quarantine.bucket" $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.quarantine.create -}}
{{- if and .enabled $isDeployment (gt (int $.Values.replicas) 1) (not (has "ReadWriteMany" .accessModes)) -}}
{{- fail "quarantine.create: with several replicas the claim must be ReadWriteMany; or set replicas: 1, or config.quarantine.bucket" -}}
{{- end -}}
{{- if and .enabled $isDeployment (ne $.Values.deployment.strategy.type "Recreate") (not (has "ReadWriteMany" .accessModes)) -}}
{{- fail "quarantine.create: a new pod would wait for the claim that the old one holds; set deployment.strategy.type: Recreate" -}}
{{- end -}}
{{- if and .enabled $.Values.uploads (kindIs "invalid" $.Values.runAs.fsGroup) -}}
{{- fail "quarantine.create: with uploads, say by runAs.fsGroup who may write to new volumes: the fsGroup of the application's own pods" -}}
{{- end -}}
{{- end -}}

{{- /* Modes */ -}}
{{- if not $isDeployment -}}
{{- $cron := dig "schedule" "cron" "*/15 * * * *" $config -}}
{{- if not (or .Values.cronJob.lookEvery (regexMatch "^[^\\s#LW?]+(\\s+[^\\s#LW?]+){4}$" $cron)) -}}
{{- fail (printf "config.schedule.cron: a CronJob takes five fields without seconds, L, W and #, and this is %q" $cron) -}}
{{- end -}}
{{- if and (dig "schedule" "jitter" "" $config) (not .Values.cronJob.lookEvery) -}}
{{- fail "config.schedule.jitter: a Job begins when Kubernetes starts it; set cronJob.lookEvery, by which jitter is kept, or leave it out" -}}
{{- end -}}
{{- if $config.api -}}
{{- fail "config.api: nobody answers between the runs of a CronJob; set mode: Deployment, or leave it out" -}}
{{- end -}}
{{- $metrics := .Values.metrics -}}
{{- if and (not .Values.cronJob.exporter.enabled) (or $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled $metrics.prometheusRule.enabled) -}}
{{- fail "metrics: a CronJob's pods are gone before they are scraped; set cronJob.exporter.enabled, or watch its Jobs" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "metrics: serviceMonitor and podMonitor would scrape each pod twice; enable one of them" -}}
{{- end -}}
{{- range $what := list "ingress" "httpRoute" -}}
{{- if (index $.Values $what).enabled -}}
{{- if not $config.api -}}
{{- fail (printf "%s: there is no API to reach; set config.api" $what) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress: name its hosts" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute: name its gateways in parentRefs" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.stores) -}}
{{- fail "networkPolicy: nothing could be reached; list the databases and stores in networkPolicy.stores" -}}
{{- end -}}
{{- if lt (int .Values.deployment.terminationGracePeriodSeconds) (add 25 (int .Values.deployment.preStopSeconds) | int) -}}
{{- fail "deployment.terminationGracePeriodSeconds: it takes preStopSeconds and up to 25 s more" -}}
{{- end -}}
{{- end -}}
