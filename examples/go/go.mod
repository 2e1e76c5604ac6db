module convoy-driver-shelf

go 1.21
