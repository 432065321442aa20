// Command routeguide calls the four methods of grpc's example: one of each kind of stream.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/examples/route_guide/routeguide"

	"servers/load"
)

const (
	features = 100 // of the example's data
	points   = 20
	notes    = 10
)

func main() {
	load.Main(func(address string, client int) (load.Client, error) {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return load.Client{}, err
		}
		guide, place := pb.NewRouteGuideClient(connection), 0
		exchange := func() error {
			place++
			return errors.Join(get(guide), list(guide), record(guide),
				chat(guide, &pb.Point{Latitude: int32(client), Longitude: int32(place)}))
		}
		return load.Client{Exchange: exchange, Close: connection.Close}, nil
	})
}

func get(guide pb.RouteGuideClient) error {
	feature, err := guide.GetFeature(context.Background(), &pb.Point{Latitude: 409146138, Longitude: -746188906})
	if err == nil && feature.GetName() != "Berkshire Valley Management Area Trail, Jefferson, NJ, USA" {
		err = fmt.Errorf("a feature's name is %q", feature.GetName())
	}
	return err
}

func list(guide pb.RouteGuideClient) error {
	everywhere := &pb.Rectangle{Lo: &pb.Point{Latitude: 0, Longitude: -1800000000},
		Hi: &pb.Point{Latitude: 900000000, Longitude: 0}}
	stream, err := guide.ListFeatures(context.Background(), everywhere)
	if err != nil {
		return err
	}
	for count := 0; ; count++ {
		switch _, err := stream.Recv(); {
		case err == io.EOF && count == features:
			return nil
		case err != nil:
			return fmt.Errorf("after %d features: %w", count, err)
		}
	}
}

func record(guide pb.RouteGuideClient) error {
	stream, err := guide.RecordRoute(context.Background())
	if err != nil {
		return err
	}
	for i := range points {
		if err := stream.Send(&pb.Point{Latitude: int32(i), Longitude: int32(i)}); err != nil {
			return err
		}
	}
	summary, err := stream.CloseAndRecv()
	if err == nil && summary.GetPointCount() != points {
		err = fmt.Errorf("%d of %d points have come", summary.GetPointCount(), points)
	}
	return err
}

// chat sends notes about a place of its own. The server answers each with all notes so far.
func chat(guide pb.RouteGuideClient, place *pb.Point) error {
	stream, err := guide.RouteChat(context.Background())
	if err != nil {
		return err
	}
	for i := range notes {
		if err := stream.Send(&pb.RouteNote{Location: place, Message: fmt.Sprint(i)}); err != nil {
			return err
		}
		for j := range i + 1 {
			note, err := stream.Recv()
			if err != nil {
				return err
			}
			if note.GetMessage() != fmt.Sprint(j) {
				return fmt.Errorf("note %d is %q", j, note.GetMessage())
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("after the last note: %v", err)
	}
	return nil
}
