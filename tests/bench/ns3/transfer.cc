// The same transfer in ns-3: selective repeat with RFC 6298 over its UDP sockets, on a
// point-to-point link of 100 Mbit/s and 10 ms. Usage: transfer PAYLOADS LOSS
// Prints the CPU seconds of the run and the packets that were sent, data and ACK.

#include <ns3/core-module.h>
#include <ns3/internet-module.h>
#include <ns3/network-module.h>
#include <ns3/point-to-point-module.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <list>
#include <unordered_map>
#include <unordered_set>
#include <vector>

using namespace ns3;

const uint32_t WINDOW = 64, SIZE = 1200, HEADER = 28;
uint64_t g_sent = 0;

Ptr<Packet>
Numbered(uint32_t seq, double stamp, uint32_t payload)
{
    uint8_t head[HEADER] = {};
    std::memcpy(head, &seq, sizeof seq);
    std::memcpy(head + 8, &stamp, sizeof stamp);
    Ptr<Packet> packet = Create<Packet>(head, HEADER);
    if (payload)
        packet->AddAtEnd(Create<Packet>(payload));
    return packet;
}

void
ReadHead(Ptr<Packet> packet, uint32_t& seq, double& stamp)
{
    uint8_t head[HEADER];
    packet->CopyData(head, HEADER);
    std::memcpy(&seq, head, sizeof seq);
    std::memcpy(&stamp, head + 8, sizeof stamp);
}

struct Sender
{
    Ptr<Socket> socket;
    uint32_t count;
    uint32_t base = 0, next = 0;
    std::list<std::pair<uint32_t, double>> flight; // number and when, oldest first
    std::unordered_map<uint32_t, std::list<std::pair<uint32_t, double>>::iterator> place;
    std::unordered_set<uint32_t> acked;
    double srtt = 0, rttvar = 0, rto = 1, backedOffAt = 0;
    EventId timer;

    static double Now() { return Simulator::Now().GetSeconds(); }

    void Transmit(uint32_t seq)
    {
        ++g_sent;
        place[seq] = flight.insert(flight.end(), {seq, Now()});
        socket->Send(Numbered(seq, Now(), SIZE));
    }

    void Fill()
    {
        while (next < std::min(count, base + WINDOW))
            Transmit(next++);
        if (!timer.IsRunning() && !flight.empty())
            Arm();
    }

    void Arm() // one event, moved on when it comes too early: cheaper than one an ACK
    {
        double left = std::max(flight.front().second + rto - Now(), 1e-9);
        timer = Simulator::Schedule(Seconds(left), &Sender::Due, this);
    }

    void Due()
    {
        if (flight.empty())
            return;
        if (flight.front().second + rto <= Now() + 1e-9)
        {
            auto [seq, sentAt] = flight.front();
            if (sentAt >= backedOffAt)
            {
                backedOffAt = Now();
                rto = std::min(2 * rto, 60.0);
            }
            flight.pop_front();
            Transmit(seq);
        }
        Arm();
    }

    void Hear(Ptr<Socket>)
    {
        while (Ptr<Packet> packet = socket->Recv())
        {
            uint32_t seq;
            double stamp;
            ReadHead(packet, seq, stamp);
            if (seq < base || !acked.insert(seq).second)
                continue;
            flight.erase(place[seq]);
            place.erase(seq);
            Sample(Now() - stamp);
            while (acked.erase(base))
                ++base;
        }
        Fill();
    }

    void Sample(double rtt)
    {
        rttvar = srtt ? 0.75 * rttvar + 0.25 * std::abs(srtt - rtt) : rtt / 2;
        srtt = srtt ? 0.875 * srtt + 0.125 * rtt : rtt;
        rto = std::clamp(srtt + std::max(0.001, 4 * rttvar), 0.1, 60.0);
    }
};

struct Receiver
{
    Ptr<Socket> socket;
    uint32_t expected = 0;
    std::unordered_set<uint32_t> early;

    void Hear(Ptr<Socket>)
    {
        Address from;
        while (Ptr<Packet> packet = socket->RecvFrom(from))
        {
            uint32_t seq;
            double stamp;
            ReadHead(packet, seq, stamp);
            if (seq >= expected)
                early.insert(seq);
            while (early.erase(expected))
                ++expected;
            ++g_sent;
            socket->SendTo(Numbered(seq, stamp, 0), 0, from);
        }
    }
};

int
main(int argc, char** argv)
{
    uint32_t count = argc > 1 ? std::atoi(argv[1]) : 10000;
    double loss = argc > 2 ? std::atof(argv[2]) : 0;
    NodeContainer nodes(2);
    PointToPointHelper link;
    link.SetDeviceAttribute("DataRate", StringValue("100Mbps"));
    link.SetChannelAttribute("Delay", StringValue("10ms"));
    NetDeviceContainer devices = link.Install(nodes);
    for (uint32_t i = 0; loss > 0 && i < 2; ++i)
    {
        Ptr<RateErrorModel> errors = CreateObject<RateErrorModel>();
        errors->SetUnit(RateErrorModel::ERROR_UNIT_PACKET);
        errors->SetRate(loss);
        devices.Get(i)->SetAttribute("ReceiveErrorModel", PointerValue(errors));
    }
    InternetStackHelper().Install(nodes);
    Ipv4AddressHelper addresses("10.1.1.0", "255.255.255.0");
    Ipv4InterfaceContainer places = addresses.Assign(devices);

    TypeId udp = UdpSocketFactory::GetTypeId();
    Receiver receiver{Socket::CreateSocket(nodes.Get(1), udp)};
    receiver.socket->Bind(InetSocketAddress(Ipv4Address::GetAny(), 9));
    receiver.socket->SetRecvCallback(MakeCallback(&Receiver::Hear, &receiver));
    Sender sender{Socket::CreateSocket(nodes.Get(0), udp), count};
    sender.socket->Connect(InetSocketAddress(places.GetAddress(1), 9));
    sender.socket->SetRecvCallback(MakeCallback(&Sender::Hear, &sender));

    std::clock_t start = std::clock();
    Simulator::ScheduleNow(&Sender::Fill, &sender);
    Simulator::Run();
    double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    if (receiver.expected != count || sender.base != count)
        return 1;
    std::printf("%.6f %llu\n", seconds, (unsigned long long)g_sent);
    Simulator::Destroy();
}
