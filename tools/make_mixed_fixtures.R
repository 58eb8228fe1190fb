# Fits of lme4 and lmerTest as JSON, for tests/test_mixed.py. Called by tools/make_mixed_fixtures.py:
#   Rscript tools/make_mixed_fixtures.R jobs.json results.json
# A job is a list of name, data (a CSV file), formula and reml. Needs r-cran-lme4, r-cran-lmertest and r-cran-jsonlite.
suppressPackageStartupMessages({library(lmerTest); library(jsonlite)})
args <- commandArgs(trailingOnly = TRUE)
options(contrasts = c("contr.treatment", "contr.poly"))

fit <- function(job) {
  d <- read.csv(job$data, stringsAsFactors = TRUE)
  for (name in intersect(names(d), c("item", "batch", "cask", "Subject", "plate", "sample", "Batch", "s", "d", "dept", "service")))
    d[[name]] <- factor(d[[name]])
  control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 2e5))
  m <- lmer(as.formula(job$formula), d, REML = job$reml, control = control)
  s <- coef(summary(m))
  v <- as.data.frame(VarCorr(m))
  effects <- as.data.frame(ranef(m, condVar = TRUE))
  effects$grpvar <- as.character(effects$grpvar)
  bounds <- if (isTRUE(job$profile)) suppressMessages(confint(m, method = "profile", oldNames = FALSE, quiet = TRUE, devtol = 1e-7)) else NULL
  list(name = job$name, formula = job$formula, reml = job$reml, rows = nobs(m),
       criterion = if (job$reml) REMLcrit(m) else deviance(m),
       term = I(rownames(s)), estimate = I(s[, "Estimate"]), standard_error = I(s[, "Std. Error"]), dof = I(s[, "df"]),
       group = I(v$grp), first = I(v$var1), second = I(v$var2), sd = I(v$sdcor), singular = isSingular(m),
       profile = if (is.null(bounds)) NULL else lapply(split(bounds, rownames(bounds)), I),
       ranef = lapply(ranef(m, condVar = FALSE), function(r) lapply(head(r, 12), I)),
       ranef_names = lapply(ranef(m, condVar = FALSE), function(r) I(head(rownames(r), 12))),
       ranef_sd = lapply(split(effects, effects$grpvar), function(g) lapply(split(g, as.character(g$term)), function(h)
         list(level = I(head(as.character(h$grp), 12)), sd = I(head(h$condsd, 12))))))
}

jobs <- fromJSON(args[1], simplifyDataFrame = FALSE)
out <- list(versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                            lmerTest = as.character(packageVersion("lmerTest"))),
            fits = lapply(jobs, fit))
write(toJSON(out, digits = I(17), auto_unbox = TRUE, na = "null", pretty = 1), args[2])
