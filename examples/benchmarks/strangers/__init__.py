"""Files as strangers may send them: good ones, changed in their structure and in their bytes."""
