"""Networks and what they take and give: manifests, both families, backends, measures of fit."""
